"""Nodes of a fleet in one event loop, on a broker in memory that a test can make do anything.

Real identities, handshakes and frames; the broker keeps retained messages, delivers in order, and can lose, repeat,
record and invent messages, or forget everything.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.model import Handler, Incoming, LastWill, OnSession
from qedge.bus.service import Bus
from qedge.crypto.config import CryptoConfig
from qedge.crypto.handshake import HandshakeContexts
from qedge.crypto.keys import SigningKey
from qedge.crypto.registry import SUITES, Suite, usable_suites
from qedge.crypto.trust import Trust
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.config import HostConfig, MeshConfig
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.direct import DirectChannel
from qedge.mesh.hellos import Hellos
from qedge.mesh.host_watch import HostWatch
from qedge.mesh.ports import ExtraKeys
from qedge.mesh.service import MeshService
from qedge.mesh.sessions import SessionService
from qedge.wire.mesh import PeerState
from qedge.wire.node import DriverView
from qedge.wire.topics import Channel, matches, topic
from tests.integration.fleet_site import ThrowAwayFleet

FLEET = "fleet"


async def until(condition: Callable[[], object], limit_s: float = 30.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass(frozen=True)
class Passed:
    """A message that went through the broker."""

    topic: str
    payload: bytes
    retain: bool
    response_topic: str = ""
    correlation: bytes = b""


class MemoryBroker:
    """What all nodes are connected to. `drop` and `twice` are asked about every message."""

    def __init__(self) -> None:
        self.buses: list[MemoryBus] = []
        self.retained: dict[str, bytes] = {}
        self.passed: list[Passed] = []
        self.drop: Callable[[Passed], bool] = lambda _message: False
        self.twice: Callable[[Passed], bool] = lambda _message: False

    def publish(
        self, where: str, payload: bytes, *, retain: bool = False, response_topic: str = "", correlation: bytes = b""
    ) -> None:
        """Pass a message on to whoever listens; anybody may call this, that is what a broker is."""
        message = Passed(where, payload, retain, response_topic, correlation)
        self.passed.append(message)
        if retain and payload:
            self.retained[where] = payload
        elif retain:
            self.retained.pop(where, None)
        if self.drop(message):
            return
        for _ in range(2 if self.twice(message) else 1):
            for bus in self.buses:
                bus.deliver(Incoming(where, payload, 1, False, response_topic, correlation))

    def of(self, channel: Channel, node: str = "") -> list[Passed]:
        """Return what went over a channel (of one node)."""
        return [
            each
            for each in self.passed
            if each.topic.endswith(f"/{channel}") and (not node or f"/{node}/" in each.topic)
        ]

    async def restart(self) -> None:
        """Forget everything, and have all connect anew."""
        self.retained.clear()
        for bus in self.buses:
            bus.connected = False
        await asyncio.sleep(0.05)
        for bus in self.buses:
            await bus.connect()


class MemoryBus:
    """Fills `Bus` for the rooms above it."""

    broker_host = "127.0.0.1"

    def __init__(self, broker: MemoryBroker) -> None:
        self.connected = False
        self.rejected: list[str] = []
        self.refuse: Callable[[str], bool] = lambda _topic: False
        self._broker = broker
        self._handlers: list[tuple[str, Handler]] = []
        self._hooks: list[OnSession] = []
        self._queue: asyncio.Queue[Incoming] = asyncio.Queue()
        self._asked: dict[bytes, asyncio.Future[Incoming]] = {}
        self.reply_topic = ""
        self.patience_s = 60.0

    def subscribe(self, pattern: str, handler: Handler, *, retained: bool = False, own: bool = True) -> None:
        """Hand messages on, those of this node too, as a broker does that knows no better."""
        self._handlers.append((pattern, handler))
        self.retained = retained

    def read_again(self, pattern: str) -> None:
        """Deliver what is retained once more."""
        for where, payload in list(self._broker.retained.items()):
            if matches(pattern, where):
                self.deliver(Incoming(where, payload, 1, True))

    def on_session(self, hook: OnSession) -> None:
        """Call after connections."""
        self._hooks.append(hook)

    def set_will(self, _make: Callable[[], LastWill | None]) -> None:
        """Wills are published by tests."""

    def reject(self, reason: str) -> None:
        """Count."""
        self.rejected.append(reason)

    def post(self, where: str, payload: bytes, *, expiry_s: int) -> None:
        """Publish without waiting."""
        assert expiry_s > 0
        self._require()
        self._broker.publish(where, payload)

    async def publish(self, where: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0) -> None:
        """Publish."""
        assert qos in (0, 1)
        assert expiry_s >= 0
        self._require()
        if self.refuse(where):
            raise QedgeError("bus.timeout", "The broker takes no word.")
        self._broker.publish(where, payload, retain=retain)
        await asyncio.sleep(0)

    def respond(self, request: Incoming, payload: bytes) -> None:
        """Answer a request."""
        self._require()
        self._broker.publish(request.response_topic, payload, correlation=request.correlation)

    async def request(self, where: str, payload: bytes, *, deadline_s: float) -> Incoming:
        """Ask a question; raises `bus.timeout`."""
        self._require()
        correlation = os.urandom(16)
        answer = self._asked[correlation] = asyncio.get_running_loop().create_future()
        self._broker.publish(where, payload, response_topic=self.reply_topic, correlation=correlation)
        try:
            async with asyncio.timeout(min(deadline_s, self.patience_s)):
                return await answer
        except TimeoutError:
            raise QedgeError("bus.timeout", "Nobody answered.") from None
        finally:
            del self._asked[correlation]

    async def echo(self, _payload: bytes, *, deadline_s: float) -> None:
        """Come back at once."""
        assert deadline_s > 0

    async def connect(self) -> None:
        """Connect, with all that is retained."""
        if self not in self._broker.buses:
            self._broker.buses.append(self)
        self.connected = True
        for where, payload in list(self._broker.retained.items()):
            self.deliver(Incoming(where, payload, 1, True))
        for hook in self._hooks:
            await hook(False)

    def deliver(self, message: Incoming) -> None:
        """Take a message, in order; answers do not stand in line."""
        waiting = self._asked.get(message.correlation)
        if waiting is not None and message.topic == self.reply_topic and not waiting.done():
            waiting.set_result(message)
            return
        if self.connected and any(matches(pattern, message.topic) for pattern, _ in self._handlers):
            self._queue.put_nowait(message)

    async def pump(self) -> None:
        """Handle messages one after the other, as the inbox does."""
        while True:
            message = await self._queue.get()
            for pattern, handler in self._handlers:
                if matches(pattern, message.topic):
                    try:
                        await handler(message)
                    except QedgeError as error:
                        self.reject(error.code)

    def _require(self) -> None:
        if not self.connected:
            raise QedgeError("bus.unavailable", "Not connected.")


class NoKeys:
    """Extra keys as a test sets them: `shared` by peer and id."""

    def __init__(self, policy: str = "prefer") -> None:
        self.policy = policy
        self.shared: dict[str, dict[str, bytes]] = {}
        self.taken: list[str] = []

    async def offered(self, peer: str) -> tuple[str, ...]:
        """Return the ids shared with a peer."""
        return tuple(self.shared.get(peer, {}))

    async def take(self, peer: str, key_id: str) -> bytes:
        """Return a key once."""
        self.taken.append(key_id)
        return self.shared[peer].pop(key_id)

    async def declined(self, peer: str, key_ids: tuple[str, ...]) -> None:
        """Let go of keys that the peer has not."""
        for key_id in key_ids:
            self.shared[peer].pop(key_id, None)

    def required(self, _peer: str) -> bool:
        """Say what policy wants."""
        return self.policy == "require"


class NoDrivers:
    """A node without drivers."""

    def drivers(self) -> Sequence[DriverView]:
        """Describe none."""
        return ()


class SiteNode:
    """One node: everything of the mesh, nothing else."""

    def __init__(
        self,
        site: Site,
        name: str,
        key: SigningKey,
        chain: tuple[bytes, ...],
        trust: Trust,
        *,
        epoch: int = 1,
        suites: Sequence[Suite] = (),
        keys: NoKeys | None = None,
        listen: str = "off",
        mesh: MeshConfig | None = None,
        key_period_s: float = 60.0,
    ) -> None:
        self.name = name
        self.metrics = Metrics()
        self.bus = MemoryBus(site.broker)
        self.keys = keys or NoKeys()
        self.kept: list[int] = []
        clock = SystemClock()
        bus, thread = cast(Bus, self.bus), CryptoThread()
        me = NodeIdentity(trust.fleet, name, "0", f"boot {name}", epoch, standalone=False)
        self.direct = DirectChannel(name, listen, near_host=lambda: "127.0.0.1", clock=clock, metrics=self.metrics)
        contexts = HandshakeContexts(key, chain, trust, suites or usable_suites(CryptoConfig()))
        self.hellos = Hellos(
            me,
            lambda: contexts,
            bus=bus,
            thread=thread,
            extra_keys=cast(ExtraKeys, self.keys),
            addresses=lambda: self.direct.addresses,
            clock=clock,
            metrics=self.metrics,
            random_bytes=os.urandom,
        )
        self.sessions = SessionService(
            me,
            self.hellos,
            bus=bus,
            direct=self.direct,
            clock=clock,
            metrics=self.metrics,
            key_period_s=key_period_s,
        )
        self.trust = trust
        self.mesh = MeshService(
            me,
            key,
            chain,
            trust,
            mesh or MeshConfig(),
            host=HostWatch(HostConfig(), state_dir=Path("/tmp"), clock=clock, metrics=self.metrics),
            bus=bus,
            sessions=self.sessions,
            thread=thread,
            capabilities=NoDrivers(),
            keep_revocations=self._keep,
            clock=clock,
            metrics=self.metrics,
            random_bytes=os.urandom,
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def _keep(self, _fleet: str, serial: int, _signed: bytes) -> None:
        self.kept.append(serial)

    async def start(self) -> None:
        """Run and connect."""
        ready = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self.bus.pump()),
            asyncio.create_task(self.sessions.run(lambda: None)),
            asyncio.create_task(self.mesh.run(ready.set)),
        ]
        await ready.wait()
        await self.bus.connect()

    async def kill(self) -> None:
        """End without a word."""
        self.bus.connected = False
        with suppress(ValueError):
            self.bus._broker.buses.remove(self.bus)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Take leave and end."""
        for task in reversed(self._tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self.kill()

    def state(self, peer: str) -> PeerState | None:
        """Return what this node holds of a peer."""
        return next((each.state for each in self.mesh.peers().peers if each.node == peer), None)

    def rejected(self, code: str) -> int:
        """Return how many messages had no effect for this reason."""
        return self.bus.rejected.count(code)


class Site:
    """A fleet on one broker."""

    def __init__(self, level: int = 3) -> None:
        self.broker = MemoryBroker()
        self.fleet = ThrowAwayFleet(FLEET, level)
        self.nodes: list[SiteNode] = []

    async def node(self, name: str, *, fleet: ThrowAwayFleet | None = None, days: int = 30, **more: object) -> SiteNode:
        """Make a node with a certificate of its own and start it."""
        home = fleet or self.fleet
        key, chain = home.member(name, days=days)
        return await self.join(SiteNode(self, name, key, chain, home.trust(), **more))  # type: ignore[arg-type]

    async def join(self, node: SiteNode) -> SiteNode:
        """Start a node."""
        self.nodes.append(node)
        await node.start()
        return node

    async def pair(self, first: str = "a", second: str = "b", **more: object) -> tuple[SiteNode, SiteNode]:
        """Start two nodes that see each other."""
        one, other = await self.node(first, **more), await self.node(second, **more)  # type: ignore[arg-type]
        await until(lambda: one.state(second) is PeerState.ALIVE and other.state(first) is PeerState.ALIVE)
        return one, other

    async def pair_with(self, keys: Sequence[NoKeys], **more: object) -> tuple[SiteNode, SiteNode]:
        """Start nodes `a` and `b` that see each other, each with its extra keys."""
        one = await self.node("a", keys=keys[0], **more)  # type: ignore[arg-type]  # passed on as it came
        other = await self.node("b", keys=keys[1], **more)  # type: ignore[arg-type]  # passed on as it came
        await until(lambda: one.state("b") is PeerState.ALIVE and other.state("a") is PeerState.ALIVE)
        return one, other

    async def close(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            await node.kill()


def suites_of(number: int) -> tuple[Suite, ...]:
    """Return one suite alone."""
    return (SUITES[number],)


def sealed_topic(node: str) -> str:
    """Return where a node gets frames."""
    return topic(FLEET, node, Channel.SEALED)
