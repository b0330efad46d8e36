"""A broker of a tool, other clients on it, and a node whose description a test changes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiomqtt
import msgspec

from qedge.base.clock import ManualClock
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.fleet.connections import AdapterService, ToolConnection
from qedge.fleet.telemetry.config import TelemetryConfig
from qedge.fleet.telemetry.service import Collector
from qedge.fleet.tool_broker import ToolBrokerConfig
from qedge.web.fake import FakeNode
from qedge.wire.node import NodeStatus

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

NO_DELAY = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
"""Without it every acknowledgement waits for another one."""


def well() -> NodeStatus:
    """Describe a node that is well, with drivers and a link."""
    found = FakeNode(ManualClock(), os.urandom).status()
    replace = msgspec.structs.replace
    services = tuple(replace(each, state="ready", error="") for each in found.services)
    drivers = tuple(replace(each, operating_state="up", admin_state="unlocked") for each in found.drivers)
    links = tuple(replace(each, state="running" if each.state else "") for each in found.links)
    return replace(found, services=services, drivers=drivers, links=links)


def ill(found: NodeStatus, reason: str = "no answer") -> NodeStatus:
    """Let the first driver be down."""
    first, *others = found.drivers
    return msgspec.structs.replace(
        found, drivers=(msgspec.structs.replace(first, operating_state="down", reason=reason), *others)
    )


async def until(condition: Callable[[], object], limit_s: float = 30.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


class ToolBroker:
    """mosquitto, as the tool has it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._config = folder / "tool.conf"
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "set_tcp_nodelay true"]
        lines += ["max_queued_messages 100000"]
        lines += ["user root"] if os.geteuid() == 0 else []
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        limit = time.monotonic() + 20
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < limit
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


class Watcher:
    """Another client of the tool: sees everything and says what it is told to."""

    def __init__(self, port: int) -> None:
        self.came: list[tuple[str, bytes, bool]] = []
        self.stands: dict[str, bytes] = {}
        self._port = port
        self._client: aiomqtt.Client | None = None

    async def run(self, ready: asyncio.Event) -> None:
        async with aiomqtt.Client("127.0.0.1", self._port, timeout=30, socket_options=NO_DELAY) as client:
            self._client = client
            client.pending_calls_threshold = 1 << 30
            await client.subscribe("#", qos=1)
            ready.set()
            async for message in client.messages:
                payload = bytes(message.payload) if isinstance(message.payload, bytes) else b""
                self.came.append((str(message.topic), payload, bool(message.retain)))
                self.stands[str(message.topic)] = payload

    async def say(self, topic: str, payload: object, *, retain: bool = False) -> None:
        assert self._client is not None
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        await self._client.publish(topic, body, qos=1, retain=retain)

    def on(self, topic: str) -> list[bytes]:
        return [payload for each, payload, _ in self.came if each == topic]

    def json(self, topic: str) -> object:
        return json.loads(self.stands[topic])


@asynccontextmanager
async def watching(port: int) -> AsyncIterator[Watcher]:
    """Run a watcher."""
    watcher, ready = Watcher(port), asyncio.Event()
    task = asyncio.create_task(watcher.run(ready))
    try:
        await asyncio.wait_for(ready.wait(), 20)
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Box:
    """A node with a collector and one connection, to which a test adds an adapter."""

    def __init__(self, config: ToolBrokerConfig, adapter: str = "tool", clock: ManualClock | None = None) -> None:
        self.status = well()
        self.metrics = Metrics()
        self.clock = clock or ManualClock()
        self.collector = Collector(
            TelemetryConfig(alarm_after_s=0, health_s=1e5), lambda: self.status, clock=self.clock
        )
        self.connection = ToolConnection(
            adapter,
            config,
            client_id=f"qedge-{adapter}",
            clock=SystemClock(),
            metrics=self.metrics,
            uniform=lambda: 0.1,
        )


@asynccontextmanager
async def running(box: Box, *beside: Callable[[], object]) -> AsyncIterator[Box]:
    """Run an adapter until it is connected, then until the end of the block."""
    service = AdapterService(box.connection, "adapter", *beside)  # type: ignore[arg-type] # coroutine functions
    task = asyncio.create_task(service.run(lambda: None))
    try:
        await until(lambda: box.connection.connected or task.done())
        if task.done():
            task.result()
        yield box
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
