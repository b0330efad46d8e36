"""One HTTPS connection to a key manager (KME), with every byte of a request in the caller's hand.

A probe has to send what a well-behaved library refuses to send, and to see the certificate of the other side; hence
HTTP/1.1 on asyncio streams and no more of it than key managers use.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from qedge.base.errors import QedgeError

_MAX_HEAD: Final = 65_536
_MAX_BODY: Final = 16 * 2**20
DEFAULT_PORT: Final = 443


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM files of a client: its certificate chain, its private key, and the authorities it trusts."""

    certificate: Path
    private_key: Path
    authorities: Path

    def context(
        self, *, low: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2, high: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    ) -> ssl.SSLContext:
        """Make a TLS context; raises `client.file`."""
        context = trusting(self.authorities)
        context.minimum_version, context.maximum_version = low, high
        try:
            context.load_cert_chain(self.certificate, self.private_key)
        except OSError as error:
            raise QedgeError(
                "client.file",
                f"{self.certificate} and {self.private_key} cannot be used: {error}.",
                fix="Name PEM files that belong together.",
            ) from error
        return context


def trusting(authorities: Path) -> ssl.SSLContext:
    """Make a context without a certificate of its own; raises `client.file`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(authorities)
    except OSError as error:
        raise QedgeError(
            "client.file", f"{authorities} holds no certificates: {error}.", fix="Name a PEM file."
        ) from error
    return context


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Reply({self.status}, {len(self.body)} bytes)"  # the body may hold keys


@dataclass(frozen=True, slots=True)
class Place:
    """Host and port of a key manager, and the path before `/api/v1/keys`."""

    host: str
    port: int
    prefix: str = ""

    @property
    def authority(self) -> str:
        """Return host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def place_of(url: str) -> Place:
    """Read `https://HOST:PORT`; raises `client.usage`."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        if parts.scheme == "https" and parts.hostname:
            return Place(parts.hostname, parts.port or DEFAULT_PORT, parts.path.rstrip("/"))
    except ValueError:
        pass
    raise QedgeError("client.usage", f"{url!r} is no address of a key manager.", fix="Write https://HOST:PORT.")


class KmeLink:
    """One connection that is opened when it is needed, and again where the other side has closed it.

    `context` None speaks plain HTTP; `check_server` looks at the URIs of the other side's certificate before
    anything is sent, and raises where they are not right. Methods raise `client.no_daemon`, `client.timeout`,
    `client.data`.
    """

    def __init__(
        self,
        place: Place,
        context: ssl.SSLContext | None,
        *,
        timeout_s: float = 10.0,
        check_server: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        self.place = place
        self._context = context
        self._timeout_s = timeout_s
        self._check_server = check_server
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> KmeLink:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()  # nothing is under way, and a peer that does not answer must not hold us
            with suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    @property
    def tls_version(self) -> str:
        """Return the version of TLS in use, empty while there is none."""
        tls = self._writer.get_extra_info("ssl_object") if self._writer is not None else None
        return str(tls.version() or "") if tls is not None else ""

    @property
    def server_uris(self) -> tuple[str, ...]:
        """Return the URIs in the certificate of the other side."""
        certificate = self._writer.get_extra_info("peercert") if self._writer is not None else None
        names = (certificate or {}).get("subjectAltName", ())
        return tuple(str(value) for kind, value in names if kind == "URI")

    async def request(
        self, method: str, path: str, body: bytes | None = None, *, headers: Sequence[tuple[str, str]] = ()
    ) -> Reply:
        """Ask for `path` below the prefix, as written; a connection that went stale is opened once more."""
        fresh = self._writer is None
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._exchange(method, path, body, headers)
                except (ConnectionError, asyncio.IncompleteReadError):
                    # Only what changes nothing is sent twice: the answer that was lost may have held keys.
                    if fresh or method != "GET" or path.rpartition("/")[2].partition("?")[0] != "status":
                        raise
                    await self.close()
                    return await self._exchange(method, path, body, headers)
        except TimeoutError as error:
            await self.close()
            raise QedgeError(
                "client.timeout", f"{self.place.authority} did not answer within {self._timeout_s:g} s."
            ) from error
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError) as error:
            await self.close()
            raise QedgeError(
                "client.no_daemon",
                f"No answer from {self.place.authority}: {getattr(error, 'reason', None) or error}.",
                fix="Look at address, certificates and authorities.",
            ) from error
        except (ValueError, asyncio.LimitOverrunError) as error:
            await self.close()
            raise QedgeError("client.data", f"{self.place.authority} does not answer in HTTP.") from error

    async def send(self, data: bytes) -> None:
        """Send bytes as they are, for a client that is slow or talks nonsense."""
        _, writer = await self._streams()
        writer.write(data)
        await writer.drain()

    async def answer(self) -> Reply:
        """Read the answer to what `send` sent."""
        reader, _ = await self._streams()
        async with asyncio.timeout(self._timeout_s):
            return await self._read(reader, "POST")

    async def open(self) -> None:
        """Open the connection now; raises what the platform raises."""
        async with asyncio.timeout(self._timeout_s):
            await self._streams()

    async def _streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                self.place.host, self.place.port, ssl=self._context, limit=_MAX_HEAD
            )
            if self._check_server is not None:
                self._check_server(self.server_uris)
        return self._reader, self._writer

    async def _exchange(self, method: str, path: str, body: bytes | None, headers: Sequence[tuple[str, str]]) -> Reply:
        reader, writer = await self._streams()
        lines = [f"{method} {self.place.prefix}{path} HTTP/1.1", f"Host: {self.place.authority}"]
        lines += ["Accept: application/json", "User-Agent: qedge"]
        if body is not None:
            lines += [f"Content-Length: {len(body)}"]
            if not any(name.lower() == "content-type" for name, _ in headers):
                lines += ["Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write("\r\n".join([*lines, "", ""]).encode("utf-8") + (body or b""))
        await writer.drain()
        return await self._read(reader, method)

    async def _read(self, reader: asyncio.StreamReader, method: str) -> Reply:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
        headers = {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if method == "HEAD" or status in (204, 304):
            body = b""
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body = await self._chunks(reader)
        elif "content-length" in headers:
            body = await reader.readexactly(_bounded(int(headers["content-length"])))
        else:
            body = await reader.read(_MAX_BODY)
        if headers.get("connection", "").lower() == "close":
            await self.close()
        return Reply(status, headers, body)

    @staticmethod
    async def _chunks(reader: asyncio.StreamReader) -> bytes:
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += await reader.readexactly(_bounded(size + len(body)) - len(body))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return body


def _bounded(size: int) -> int:
    if not 0 <= size <= _MAX_BODY:
        raise ValueError("the answer is too large")
    return size
