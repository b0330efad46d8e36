"""The way of a job between two daemons without the daemons: what HTTP, MQTT and SQLite take by themselves.

Two processes with the same libraries: one answers a request over a unix socket, commits it, publishes it to the other
one through the broker, waits for an answer that is published back, commits that, and replies. There is no session, no
job and no QPU in it. `python -m benchmarks.mqtt_floor ROLE PORT FOLDER`, ROLE `origin` or `runner`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import aiohttp
import uvloop
from aiohttp import web

from qedge.bus.model import Endpoint, Incoming
from qedge.bus.mqtt_client import MqttClient, posted_properties

ANSWER_BYTES = 8_000
"""What a result of 1000 shots on 10 qubits takes."""
EXPIRY_S = 60


class Connection:
    """One connection to the broker: `take` gets every message on `topic`."""

    def __init__(self, port: int, topic: str, take: Callable[[bytes], None]) -> None:
        self._topic = topic
        self._take = take
        self._client = MqttClient(
            Endpoint("127.0.0.1", port, "mosquitto"),
            self._arrived,
            client_id=f"floor-{topic}",
            keepalive_s=60,
            session_expiry_s=0,
            receive_maximum=100,
            connect_timeout_s=10,
            clean_start=True,
            will=None,
            tls=None,
        )

    async def open(self) -> None:
        """Connect and subscribe."""
        await self._client.open()
        await self._client.listen([self._topic])

    def post(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1 without waiting for the broker."""
        self._client.post(topic, payload, qos=1, retain=False, properties=posted_properties(EXPIRY_S))

    def _arrived(self, client: MqttClient, mid: int, message: Incoming) -> None:
        self._take(message.payload)
        client.acknowledge(mid)


async def runner(port: int, folder: Path) -> None:
    """Answer every message at once."""
    answer = bytes(ANSWER_BYTES)
    connection = Connection(port, "runner", lambda _payload: connection.post("origin", answer))
    await connection.open()
    (folder / "runner.ready").touch()
    await asyncio.Event().wait()


async def origin(port: int, folder: Path) -> None:
    """Serve requests on a unix socket, one at a time."""
    store = sqlite3.connect(folder / "floor.sqlite3", isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        store.execute(f"PRAGMA {pragma}")
    store.execute("CREATE TABLE kept (body BLOB)")
    thread = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[bytes]] = []
    connection = Connection(port, "origin", lambda payload: waiting.pop().set_result(payload))
    await connection.open()

    async def keep(body: bytes) -> None:
        await loop.run_in_executor(thread, store.execute, "INSERT INTO kept VALUES (?)", (body,))

    async def submit(request: web.Request) -> web.Response:
        body = await request.read()
        await keep(body)
        answer: asyncio.Future[bytes] = loop.create_future()
        waiting.append(answer)
        connection.post("runner", body)
        result = await answer
        await keep(result)
        return web.Response(body=result)

    app = web.Application()
    app.router.add_post("/", submit)
    served = web.AppRunner(app, access_log=None)
    await served.setup()
    await web.UnixSite(served, str(folder / "floor.sock")).start()
    (folder / "origin.ready").touch()
    await asyncio.Event().wait()


class Floor:
    """Both processes, and a client of the first; `round` returns milliseconds of so many requests."""

    def __init__(self, port: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        command = [sys.executable, "-m", "benchmarks.mqtt_floor"]
        self._commands = [[*command, role, str(port), str(folder)] for role in ("runner", "origin")]
        self._processes: list[subprocess.Popen[bytes]] = []

    async def __aenter__(self) -> Floor:
        self._processes = [subprocess.Popen(command) for command in self._commands]
        deadline = time.monotonic() + 30
        while not all((self._folder / f"{role}.ready").exists() for role in ("runner", "origin")):
            if time.monotonic() > deadline:
                raise RuntimeError("the floor did not start")
            await asyncio.sleep(0.05)
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._folder / "floor.sock")))
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._session.close()
        for process in self._processes:
            process.kill()
            process.wait()

    async def round(self, bodies: list[bytes]) -> list[float]:
        """Send one request after the other."""
        times = []
        for body in bodies:
            started = time.perf_counter()
            async with self._session.post("http://localhost/", data=body) as reply:
                assert len(await reply.read()) == ANSWER_BYTES
            times.append((time.perf_counter() - started) * 1e3)
        return times


if __name__ == "__main__":
    uvloop.run({"origin": origin, "runner": runner}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3])))
