"""Listener, intake and enforcement point in this process, with sessions that were never negotiated."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from qedge.base.metrics import Metrics
from qedge.base.service import Service
from qedge.base.system_clock import SystemClock
from qedge.bus.model import Endpoint
from qedge.devices.enforcement import Enforcement
from qedge.devices.fake import (
    FakeAudience,
    FakeConsumer,
    FakeDevice,
    FakeDoorman,
    FakeGreeter,
    FakeJudge,
    FakeSessionBook,
    FakeWitness,
)
from qedge.devices.ways_in.config import IntakeConfig, ListenerConfig
from qedge.devices.ways_in.greeting import GreetingDesk
from qedge.devices.ways_in.intake import BrokerIntake
from qedge.devices.ways_in.listener import Listener
from qedge.devices.ways_in.pace import Pace
from qedge.devices.ways_in.rates import Throttles

FLEET, NODE = "f", "n"
_CLIENTS: list[RawClient] = []


async def until(condition: Callable[[], object], limit_s: float = 30.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


class GatewayHost:
    """What the daemon has of the gateway."""

    def __init__(self, config: ListenerConfig, broker: Endpoint | None = None) -> None:
        self.clock, self.metrics = SystemClock(), Metrics()
        self.book, self.doorman, self.judge = FakeSessionBook(FLEET, NODE), FakeDoorman(), FakeJudge()
        self.consumer, self.witness = FakeConsumer(), FakeWitness()
        self.greeter, self.audience = FakeGreeter(), FakeAudience()
        self.enforcement = Enforcement(
            self.book, self.judge, consumers=[self.consumer], witness=self.witness, metrics=self.metrics
        )
        self.pace = Pace(self.clock)
        self.desk = GreetingDesk(self.greeter, pace=self.pace, metrics=self.metrics)
        self.throttles = Throttles(config.messages_per_s)
        self.listener = Listener(
            config,
            fleet=FLEET,
            node=NODE,
            enforcement=self.enforcement,
            doorman=self.doorman,
            desk=self.desk,
            pace=self.pace,
            throttles=self.throttles,
            clock=self.clock,
            metrics=self.metrics,
            audience=self.audience,
        )
        self.intake = BrokerIntake(
            IntakeConfig(reconnect_cap_s=0.2, keepalive_s=2),
            lambda: broker,
            fleet=FLEET,
            node=NODE,
            enforcement=self.enforcement,
            desk=self.desk,
            throttles=self.throttles,
            clock=self.clock,
            metrics=self.metrics,
            uniform=random.random,
            between=self.listener.lanes.serve_urgent,
        )
        self.enforcement.connect([self.listener, self.intake])
        self.tasks: list[asyncio.Task[None]] = []
        self.services: list[Service] = [self.desk, self.listener, *([self.intake] if broker is not None else [])]

    def add(self, name: str, *, safety: bool = False) -> FakeDevice:
        """Make a device known and open its session."""
        return self.book.open(self.doorman.add(name, safety=safety))

    @property
    def ports(self) -> list[int]:
        return [int(each.rsplit(":", 1)[1]) for each in self.listener.view().addresses]

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, _, body in self.consumer.taken]

    def closed(self, reason: str) -> float:
        return self.metrics.value("qedge_device_closed_total", (reason,))


@asynccontextmanager
async def gateway(broker: Endpoint | None = None, **settings: object) -> AsyncIterator[GatewayHost]:
    """Run a gateway on a free port."""
    config = msgspec.convert({"listen": ["127.0.0.1:0"], **settings}, ListenerConfig)
    host = GatewayHost(config, broker)
    ready = [asyncio.Event() for _ in host.services]
    host.tasks = [
        asyncio.create_task(service.run(event.set)) for service, event in zip(host.services, ready, strict=True)
    ]
    try:
        async with asyncio.timeout(20):
            for event in ready:
                await event.wait()
        yield host
    finally:
        for task in host.tasks:
            task.cancel()
        await asyncio.gather(*host.tasks, return_exceptions=True)
        for client in _CLIENTS:
            client.abort()
        _CLIENTS.clear()
        await asyncio.sleep(0)


class RawClient:
    """A client that says what a test wants, sound or not, by MQTT 3.1.1 or none at all."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, port: int, source: str = "127.0.0.1") -> RawClient:
        client = cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))
        _CLIENTS.append(client)
        return client

    @classmethod
    async def attach(
        cls, port: int, device: FakeDevice, *, keep_alive_s: int = 60, source: str = "127.0.0.1"
    ) -> RawClient:
        client = await cls.dial(port, source)
        client.send(connect_packet(device, keep_alive_s))
        assert await client.read(4) == b"\x20\x02\x00\x00"
        return client

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(30):
            return await self.reader.readexactly(size)

    async def ended(self) -> bool:
        """Wait until the other side closes; what it says before is dropped."""
        try:
            async with asyncio.timeout(30):
                while await self.reader.read(4096):
                    pass
        except ConnectionError:
            pass
        return True

    def listen(self, topic: str, qos: int = 0) -> None:
        name = topic.encode()
        body = b"\x00\x01" + struct.pack(">H", len(name)) + name + bytes([qos])
        self.send(bytes([0x82, len(body)]) + body)

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        """Break the connection off."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def connect_packet(device: FakeDevice, keep_alive_s: int = 60, password: bytes | None = None) -> bytes:
    """Write a CONNECT of MQTT 3.1.1."""
    name = device.name.encode()
    secret = device.password if password is None else password
    fields = b"".join(struct.pack(">H", len(each)) + each for each in (name, name, secret))
    body = b"\x00\x04MQTT\x04\xc2" + struct.pack(">H", keep_alive_s) + fields
    return bytes([0x10, len(body)]) + body
