"""A private broker as a child process: mosquitto where it is installed, else the one in the `iotcore` wheel.

It listens on a free loopback port, and on `broker.listen` where other boxes shall meet here. It lets in only who knows
the password, so that another user of the box cannot use it: a new one at each start, or a given one, which the boxes
that joined know. It ends with the daemon.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import psutil

from qedge.base.backoff import Backoff
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.service import Ready
from qedge.base.with_parent import with_parent
from qedge.bus.config import BusConfig
from qedge.bus.model import MAX_PACKET_BYTES, Endpoint

_LOG: Final = get_logger("bus")
_USER: Final = "qedge"
_START_LIMIT_S: Final = 15.0
_STOP_LIMIT_S: Final = 1.0
_STEADY_S: Final = 10.0
_HASH_ROUNDS: Final = 101
"""The password has 256 random bits, so rounds protect nothing; this is what mosquitto itself uses."""

_SEARCH: Final = ("/usr/sbin", "/usr/local/sbin")
_LOOPBACK: Final = "127.0.0.1"
_SECRET_BYTES: Final = 32
_SALT_BYTES: Final = 12
_START_POLL_S: Final = 0.01
_LAST_WORDS_S: Final = 0.2
_MAX_LINE_BYTES: Final = 4096
_USERS: Final = "broker.users"
_MOSQUITTO: Final = "broker.conf"
_IOTCORE: Final = "broker.toml"
_FILES: Final = (_USERS, _MOSQUITTO, _IOTCORE)


class ChildBroker:
    """Keeps the private broker running; `endpoint` is None while it is not up."""

    name = "broker"

    def __init__(
        self,
        config: BusConfig,
        folder: Path,
        *,
        password: str,
        clock: Clock,
        random_bytes: RandomBytes,
        uniform: Callable[[], float],
    ) -> None:
        self._config = config
        self._folder = folder
        self.username = _USER
        self._given = password
        self.password = password
        self._clock = clock
        self._random_bytes = random_bytes
        self._uniform = uniform
        self._backoff = Backoff(0.1, 10.0)
        self._endpoint: Endpoint | None = None
        self.pid = 0

    def endpoint(self) -> Endpoint | None:
        """Return where the broker accepts connections now."""
        return self._endpoint

    @property
    def reachable_url(self) -> str:
        """URL under which `broker.listen` serves other boxes; empty where it serves none."""
        return f"mqtt://{self._config.listen}" if self._config.listen else ""

    async def run(self, ready: Ready) -> None:
        """Keep a broker running until cancelled."""
        failures = 0
        while True:
            started_ns = self._clock.now_ns()
            kind, process, complaints = await self._start()
            try:
                ready()
                code = await process.wait()
            finally:
                self._endpoint = None
                await _end(process)
                await complaints.close()
                await asyncio.to_thread(remove_files, self._folder)
            if (self._clock.now_ns() - started_ns) / 1e9 > _STEADY_S:
                failures = 0
            _LOG.warning("bus.broker_died", kind=kind, exit=code, last=complaints.last)
            await asyncio.sleep(self._backoff.delay_s(failures, self._uniform()))
            failures += 1

    async def _start(self) -> tuple[str, Process, _Complaints]:
        kind, program = self._choose()
        port = _free_port()
        self.password = self._given or self._random_bytes(_SECRET_BYTES).hex()
        write = _write_mosquitto if kind == "mosquitto" else _write_iotcore
        await asyncio.to_thread(remove_files, self._folder)  # of the other kind, where this node was killed
        places = [f"{_LOOPBACK}:{port}", *([self._config.listen] if self._config.listen else [])]
        command = await asyncio.to_thread(
            write, self._folder, program, places, self.password, self._random_bytes(_SALT_BYTES)
        )
        # mosquitto would tell the service manager that the node is ready
        env = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFY_", "WATCHDOG_"))}
        process = await asyncio.create_subprocess_exec(
            *with_parent(*command), stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=env
        )
        complaints = _Complaints(process)
        try:
            await self._wait_listening(process, port, kind, complaints)
        except BaseException:
            await _end(process)
            await complaints.close()
            await asyncio.to_thread(remove_files, self._folder)
            raise
        self.pid = process.pid
        self._endpoint = Endpoint(_LOOPBACK, port, kind, username=_USER, password=self.password)
        _LOG.info("bus.broker_started", kind=kind, port=port, pid=process.pid)
        return kind, process, complaints

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

    async def _wait_listening(self, process: Process, port: int, kind: str, complaints: _Complaints) -> None:
        """Wait until the child itself holds the port: whoever else took it must not be shown the password."""
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                while not await asyncio.to_thread(_listens, process.pid, port):
                    if process.returncode is not None:
                        raise QedgeError(
                            "bus.no_broker",
                            f"The {kind} broker ended at once with code {process.returncode}: {complaints.last or '-'}",
                            fix="Set broker.kind to the other one, or name a broker in broker.url.",
                        )
                    await asyncio.sleep(_START_POLL_S)
        except TimeoutError:
            raise QedgeError(
                "bus.no_broker",
                f"The {kind} broker did not listen within {_START_LIMIT_S:g} s: {complaints.last or '-'}",
                fix="Set broker.kind to the other one, or name a broker in broker.url.",
            ) from None


class _Complaints:
    """Reads what the broker writes to its standard error and keeps the last line."""

    def __init__(self, process: Process) -> None:
        self.last = ""
        self._task = asyncio.get_running_loop().create_task(self._read(process.stderr))

    async def close(self) -> None:
        """Stop reading, but take what the broker said with its last breath."""
        await asyncio.wait({self._task}, timeout=_LAST_WORDS_S)
        self._task.cancel()

    async def _read(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (chunk := await stream.read(_MAX_LINE_BYTES)):
            if lines := chunk.decode("utf-8", "replace").strip().splitlines():
                self.last = lines[-1][-200:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(pid: int, port: int) -> bool:
    try:
        sockets = psutil.Process(pid).net_connections(kind="tcp4")
    except psutil.Error:
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr == (_LOOPBACK, port) for each in sockets)


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


def remove_files(folder: Path) -> None:
    """Erase what a private broker was told, its password too; a daemon that was killed has left it. Blocks."""
    for name in _FILES:
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def _write_private(path: Path, text: str) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _write_mosquitto(folder: Path, program: str, places: Sequence[str], password: str, salt: bytes) -> list[str]:
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _HASH_ROUNDS)
    salt_text, digest_text = base64.b64encode(salt).decode(), base64.b64encode(digest).decode()
    users = _write_private(folder / _USERS, f"{_USER}:$7${_HASH_ROUNDS}${salt_text}${digest_text}\n")
    ends = [place.rpartition(":") for place in places]
    lines = [
        *(f"listener {port} {host.strip('[]')}" for host, _, port in ends),
        "allow_anonymous false",
        f"password_file {users}",
        "persistence false",
        "set_tcp_nodelay true",
        "max_queued_messages 100000",
        "max_inflight_messages 200",
        f"max_packet_size {MAX_PACKET_BYTES}",
        "log_dest stderr",
        "log_type error",
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # otherwise it changes to a user that cannot read its own password file
    config = _write_private(folder / _MOSQUITTO, "\n".join(lines) + "\n")
    return [program, "-c", str(config)]


def _write_iotcore(folder: Path, program: str, places: Sequence[str], password: str, _salt: bytes) -> list[str]:
    text = """id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
"""
    for number, place in enumerate(places, 1):
        text += f"""[v5.{number}]
name = "private-{number}"
listen = "{place}"
next_connection_delay_ms = 0
[v5.{number}.connections]
connection_timeout_ms = 60000
max_payload_size = {MAX_PACKET_BYTES}
max_inflight_count = 200
dynamic_filters = true
[v5.{number}.connections.auth]
{_USER} = "{password}"
"""
    config = _write_private(folder / _IOTCORE, text)
    return [program, "-m", "qedge.bus.iotcore_broker", str(config)]
