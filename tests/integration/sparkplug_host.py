"""A Sparkplug host as tests need it: a real MQTT client that hears all, and a broker and a bad line to go with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiomqtt

from qedge.fleet.sparkplug.model import DataType, Metric, Payload
from qedge.fleet.sparkplug.payload import encode_payload
from tests.conformance.sparkplug.protobuf_text import WirePayload, read
from tests.integration.bus_site import MOSQUITTO


@dataclass(frozen=True)
class Said:
    """A message of an edge node."""

    verb: str
    node: str
    device: str
    payload: WirePayload

    @property
    def bd_seq(self) -> object:
        """The number that pairs births and deaths."""
        return self.payload.metric("bdSeq").value


class SparkplugHost:
    """Hears all messages of a group; `alive` holds the nodes that are online by the rules of hosts."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.said: list[Said] = []
        self.alive: dict[str, object] = {}
        self._client: aiomqtt.Client | None = None

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[SparkplugHost]:
        """Connect and listen."""
        client = aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V311, identifier="host")
        async with client:
            self._client = client
            await client.subscribe(f"spBv1.0/{self.group}/#", qos=1)
            task = asyncio.create_task(self._listen(client))
            try:
                yield self
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def command(self, verb: str, node: str, device: str, *metrics: Metric) -> None:
        """Send an NCMD or DCMD."""
        assert self._client is not None
        topic = "/".join(each for each in ("spBv1.0", self.group, verb, node, device) if each)
        await self._client.publish(topic, encode_payload(Payload(1, metrics)), qos=0)

    async def ask_rebirth(self, node: str) -> None:
        """Ask for all births."""
        await self.command("NCMD", node, "", Metric("Node Control/Rebirth", DataType.BOOLEAN, True, 1))

    async def state(self, host: str, online: bool, at_ms: int) -> None:
        """Say what a host says of itself."""
        assert self._client is not None
        payload = json.dumps({"online": online, "timestamp": at_ms})
        await self._client.publish(f"spBv1.0/STATE/{host}", payload, qos=1, retain=True)

    def count(self, verb: str) -> int:
        """Return how many messages of a verb came."""
        return sum(each.verb == verb for each in self.said)

    async def until(self, condition: Callable[[], object], limit_s: float = 30.0) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.01)

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            levels = message.topic.value.split("/")
            if levels[2] in ("NCMD", "DCMD"):
                continue
            assert isinstance(message.payload, bytes)
            said = Said(levels[2], levels[3], "/".join(levels[4:]), read(message.payload))
            self.said.append(said)
            if said.verb == "NBIRTH":
                self.alive[said.node] = said.bd_seq
            elif said.verb == "NDEATH" and self.alive.get(said.node) == said.bd_seq:
                del self.alive[said.node]


@asynccontextmanager
async def mosquitto(folder: Path, *lines: str, port: int = 0) -> AsyncIterator[int]:
    """Run a broker of its own, with further lines in its configuration; gives the port, a free one for 0."""
    assert MOSQUITTO is not None
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "mosquitto.conf"
    plain = (f"listener {port} 127.0.0.1", "allow_anonymous true", "set_tcp_nodelay true", "log_dest none")
    config.write_text("\n".join((*plain, *lines)) + "\n")
    process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)


class BadLine:
    """A TCP relay that can be cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[BadLine]:
        """Relay."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._server.close()
            self.cut()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break all connections."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        pair = {writer, far_writer}
        self._writers |= pair

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65_536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)
        self._writers -= pair
        self._tasks.discard(task)
