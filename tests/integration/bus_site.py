"""A private broker and nodes on it, in one process, for tests of the bus with real brokers."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt

from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.child_broker import ChildBroker
from qedge.bus.config import BusConfig
from qedge.bus.model import Endpoint
from qedge.bus.service import Bus
from qedge.crypto.config import CryptoConfig
from qedge.crypto.handshake import HandshakeContexts
from qedge.crypto.registry import usable_suites
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.config import HostConfig, MeshConfig
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.direct import DirectChannel
from qedge.mesh.hellos import Hellos
from qedge.mesh.host_watch import HostWatch
from qedge.mesh.service import MeshService
from qedge.mesh.sessions import SessionService
from qedge.wire.node import DriverView, PingView
from qedge.wire.topics import Channel, topic
from tests.integration.fleet_site import ThrowAwayFleet
from tests.unit.mesh.mesh_site import NoKeys

FLEET = "f"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


async def until(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


class NoDrivers:
    """A node without drivers."""

    def drivers(self) -> Sequence[DriverView]:
        """Describe none."""
        return ()


class SiteNode:
    """Bus, sessions and mesh of one node; started and stopped as often as a test likes, with one client id."""

    def __init__(
        self,
        name: str,
        locate: Callable[[], Endpoint | None],
        config: BusConfig,
        folder: Path,
        fleet: ThrowAwayFleet,
    ) -> None:
        self.name = name
        self.metrics = Metrics()
        clock = SystemClock()
        self.bus = Bus(
            config,
            locate,
            client_id=f"qedge-{name}",
            reply_topic=topic(FLEET, name, Channel.REPLY),
            clock=clock,
            metrics=self.metrics,
            random_bytes=os.urandom,
            uniform=random.random,
        )
        key, chain = fleet.member(name)
        trust, me, thread = fleet.trust(), NodeIdentity(FLEET, name, "0", "boot", 1, standalone=False), CryptoThread()
        direct = DirectChannel(name, "off", near_host=lambda: "127.0.0.1", clock=clock, metrics=self.metrics)
        contexts = HandshakeContexts(key, chain, trust, usable_suites(CryptoConfig()))
        hellos = Hellos(
            me,
            lambda: contexts,
            bus=self.bus,
            thread=thread,
            extra_keys=NoKeys(),
            addresses=lambda: (),
            clock=clock,
            metrics=self.metrics,
            random_bytes=os.urandom,
        )
        self.sessions = SessionService(me, hellos, bus=self.bus, direct=direct, clock=clock, metrics=self.metrics)
        self.mesh = MeshService(
            me,
            key,
            chain,
            trust,
            MeshConfig(),
            host=HostWatch(HostConfig(), state_dir=folder, clock=clock, metrics=self.metrics),
            bus=self.bus,
            sessions=self.sessions,
            thread=thread,
            capabilities=NoDrivers(),
            keep_revocations=_keep_nothing,
            clock=clock,
            metrics=self.metrics,
            random_bytes=os.urandom,
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *, connected: bool = True) -> None:
        """Run and wait until connected, unless `connected` is False."""
        services = (self.bus, self.sessions, self.mesh)
        self._tasks = [asyncio.create_task(service.run(lambda: None)) for service in services]
        if connected:
            await until(lambda: self.bus.connected)

    async def stop(self) -> None:
        """Stop, the mesh first, as the daemon does."""
        for task in reversed(self._tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._tasks = []

    async def ping(self, peer: str, count: int, *, timeout_s: float) -> PingView:
        """Wait until `peer` is known, and ask it."""
        await until(lambda: peer == self.name or any(each.node == peer for each in self.mesh.peers().peers))
        return await self.mesh.ping(peer, count, timeout_s=timeout_s)

    def rejected(self) -> float:
        """Return how many messages had no effect."""
        return sum(self.metrics.values("qedge_bus_rejected_total").values())


async def _keep_nothing(_fleet: str, _serial: int, _signed: bytes) -> None:
    """Forget lists of revoked keys: these nodes are never restarted with a database."""


class Site:
    """One private broker of a kind and any number of nodes."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder = folder
        self.fleet = ThrowAwayFleet(FLEET)
        self.config = BusConfig(kind=kind)  # type: ignore[arg-type] # the test parametrises it
        self.broker = ChildBroker(
            self.config,
            folder / "run",
            password="",
            clock=SystemClock(),
            random_bytes=os.urandom,
            uniform=random.random,
        )
        self.nodes: list[SiteNode] = []
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the broker."""
        self._task = asyncio.create_task(self.broker.run(lambda: None))
        await until(lambda: self.broker.endpoint() is not None or (self._task is not None and self._task.done()))
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Stop nodes and broker."""
        for node in self.nodes:
            await node.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def node(self, name: str, **settings: object) -> SiteNode:
        """Make and start a node."""
        config = BusConfig(**settings)  # type: ignore[arg-type] # the test names fields
        node = SiteNode(name, self.broker.endpoint, config, self.folder, self.fleet)
        self.nodes.append(node)
        await node.start()
        return node

    def stranger(self, **changes: object) -> aiomqtt.Client:
        """Make a plain client of the library, by default with the right credentials."""
        endpoint = self.broker.endpoint()
        assert endpoint is not None
        settings: dict[str, object] = {
            "username": endpoint.username,
            "password": endpoint.password,
            "protocol": aiomqtt.ProtocolVersion.V5,
            "clean_start": True,
            "timeout": 10,
        }
        return aiomqtt.Client(endpoint.host, endpoint.port, **(settings | changes))  # type: ignore[arg-type] # as above


@asynccontextmanager
async def running_site(kind: str, folder: Path) -> AsyncIterator[Site]:
    """Run a site."""
    site = Site(kind, folder)
    try:
        await site.start()
        yield site
    finally:
        await site.stop()
