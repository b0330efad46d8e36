"""Opens a TCP or TLS connection without a thread, so that it can be cancelled at any instant, and tunes it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

_QUICK_ACK: Final = getattr(socket, "TCP_QUICKACK", None)


async def dial(host: str, port: int, tls: ssl.SSLContext | None) -> socket.socket:
    """Connect to the first address of `host` that answers; the socket does not block. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        raw = socket.socket(family, kind, protocol)
        try:
            raw.setblocking(False)
            await loop.sock_connect(raw, address)
            tune(raw)
            return raw if tls is None else await _shake_hands(raw, tls, host)
        except OSError as error:
            raw.close()
            failure = error
        except BaseException:
            raw.close()
            raise
    raise failure


def tune(raw: socket.socket) -> None:
    """Send small packets at once, and acknowledge at once."""
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    arm_quick_ack(raw)


def arm_quick_ack(raw: socket.socket) -> None:
    """Acknowledge what comes next at once; the kernel forgets it (Linux tcp(7)), so it is due after every read."""
    if _QUICK_ACK is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)


async def _shake_hands(raw: socket.socket, tls: ssl.SSLContext, host: str) -> socket.socket:
    secured = tls.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
    loop = asyncio.get_running_loop()
    try:
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                await _until(secured.fileno(), loop.add_reader, loop.remove_reader)
            except ssl.SSLWantWriteError:
                await _until(secured.fileno(), loop.add_writer, loop.remove_writer)
            else:
                return secured
    except BaseException:
        secured.close()
        raise


async def _until(fileno: int, add: Callable[..., object], remove: Callable[[int], object]) -> None:
    ready = asyncio.Event()
    add(fileno, ready.set)
    try:
        await ready.wait()
    finally:
        remove(fileno)
