"""A private broker as a child process: mosquitto where it is installed, else the one in the `iotcore` wheel.

It listens on a free loopback port and lets in only who knows a password drawn at each start, so that another user of
the box cannot use it. It ends with the daemon.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Final

from qedge.base.backoff import Backoff
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.service import Ready
from qedge.bus.config import BusConfig
from qedge.bus.model import MAX_MESSAGE_BYTES, Endpoint

_LOG: Final = get_logger("bus")
_USER: Final = "qedge"
_START_LIMIT_S: Final = 15.0
_STOP_LIMIT_S: Final = 1.0
_STEADY_S: Final = 10.0
_HASH_ROUNDS: Final = 101
"""The password has 256 random bits, so rounds protect nothing; this is what mosquitto itself uses."""

_SEARCH: Final = ("/usr/sbin", "/usr/local/sbin")


class ChildBroker:
    """Keeps the private broker running; `endpoint` is None while it is not up."""

    name = "broker"

    def __init__(
        self,
        config: BusConfig,
        folder: Path,
        *,
        clock: Clock,
        random_bytes: RandomBytes,
        uniform: Callable[[], float],
    ) -> None:
        self._config = config
        self._folder = folder
        self._clock = clock
        self._random_bytes = random_bytes
        self._uniform = uniform
        self._backoff = Backoff(0.1, 10.0)
        self._endpoint: Endpoint | None = None
        self.pid = 0

    def endpoint(self) -> Endpoint | None:
        """Return where the broker accepts connections now."""
        return self._endpoint

    async def run(self, ready: Ready) -> None:
        """Keep a broker running until cancelled."""
        failures = 0
        while True:
            started_ns = self._clock.now_ns()
            kind, process = await self._start()
            try:
                ready()
                code = await process.wait()
            finally:
                self._endpoint = None
                await _end(process)
            if (self._clock.now_ns() - started_ns) / 1e9 > _STEADY_S:
                failures = 0
            _LOG.warning("bus.broker_died", kind=kind, exit=code)
            await asyncio.sleep(self._backoff.delay_s(failures, self._uniform()))
            failures += 1

    async def _start(self) -> tuple[str, Process]:
        kind, program = self._choose()
        port = _free_port()
        password = self._random_bytes(32).hex()
        await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        write = _write_mosquitto if kind == "mosquitto" else _write_iotcore
        command = await asyncio.to_thread(write, self._folder, program, port, password, self._random_bytes(12))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "qedge.bus.with_parent", *command, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL
        )
        try:
            await self._wait_accepting(process, port, kind)
        except BaseException:
            await _end(process)
            raise
        self.pid = process.pid
        self._endpoint = Endpoint("127.0.0.1", port, kind, username=_USER, password=password)
        _LOG.info("bus.broker_started", kind=kind, port=port, pid=process.pid)
        return kind, process

    def _choose(self) -> tuple[str, str]:
        wanted = self._config.kind
        search = os.pathsep.join([os.environ.get("PATH", ""), *_SEARCH])
        mosquitto = shutil.which("mosquitto", path=search) if wanted != "iotcore" else None
        if mosquitto:
            return "mosquitto", mosquitto
        if wanted == "mosquitto":
            raise QedgeError(
                "bus.no_broker",
                "mosquitto is not installed.",
                fix="Install mosquitto, or set broker.kind to auto or iotcore, or name a broker in broker.url.",
            )
        return "iotcore", sys.executable

    async def _wait_accepting(self, process: Process, port: int, kind: str) -> None:
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                while True:
                    if process.returncode is not None:
                        raise QedgeError(
                            "bus.no_broker",
                            f"The {kind} broker ended at once with code {process.returncode}.",
                            fix="Set broker.kind to the other one, or name a broker in broker.url.",
                        )
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.close()
                        return
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise QedgeError(
                "bus.no_broker",
                f"The {kind} broker did not listen within {_START_LIMIT_S:g} s.",
                fix="Look at the log.",
            ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_LIMIT_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _write_private(path: Path, text: str) -> Path:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _write_mosquitto(folder: Path, program: str, port: int, password: str, salt: bytes) -> list[str]:
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _HASH_ROUNDS)
    salt_text, digest_text = base64.b64encode(salt).decode(), base64.b64encode(digest).decode()
    users = _write_private(folder / "broker.users", f"{_USER}:$7${_HASH_ROUNDS}${salt_text}${digest_text}\n")
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous false",
        f"password_file {users}",
        "persistence false",
        "set_tcp_nodelay true",
        "max_queued_messages 100000",
        "max_inflight_messages 200",
        f"message_size_limit {MAX_MESSAGE_BYTES + 4096}",
        "log_type none",
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # otherwise it changes to a user that cannot read its own password file
    config = _write_private(folder / "broker.conf", "\n".join(lines) + "\n")
    return [program, "-c", str(config)]


def _write_iotcore(folder: Path, program: str, port: int, password: str, _salt: bytes) -> list[str]:
    text = f"""id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "private"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 0
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {MAX_MESSAGE_BYTES + 4096}
max_inflight_count = 200
dynamic_filters = true
[v5.1.connections.auth]
{_USER} = "{password}"
"""
    config = _write_private(folder / "broker.toml", text)
    return [program, "-m", "qedge.bus.iotcore_broker", str(config)]
