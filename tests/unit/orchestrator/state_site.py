"""Nodes that share state, in one event loop: real signatures and databases, a broker in memory, and calls between nodes
that a test can cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.service import Bus
from qedge.crypto.keys import SigningKey
from qedge.mesh.crypto_thread import CryptoThread
from qedge.orchestrator.state.config import StateConfig
from qedge.orchestrator.state.proof import Signer
from qedge.orchestrator.state.service import StateService
from qedge.store.store import Store
from tests.integration.fleet_site import ThrowAwayFleet
from tests.unit.mesh.mesh_site import FLEET, MemoryBroker, MemoryBus

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)
P = ParamSpec("P")
R = TypeVar("R")
QUICK = StateConfig(compare_s=0.5)


class ShiftedClock(SystemClock):
    """The clock of the box, with a wall clock that a test can set off."""

    shift_ns = 0
    stands_ns: int | None = None
    """Where timers stand still."""

    def now_ns(self) -> int:
        """Return the boot-time clock."""
        return super().now_ns() if self.stands_ns is None else self.stands_ns

    def utc_ns(self) -> int:
        """Return the wall clock."""
        return super().utc_ns() + self.shift_ns


class CountingThread(CryptoThread):
    """Knows what was given to it."""

    def __init__(self) -> None:
        super().__init__()
        self.works: list[str] = []

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` there."""
        self.works.append(work.__name__)
        return await super().run(work, *args, **kwargs)


class NearPeers:
    """Fills `StatePeers`: nodes of the same site, reached by a call of a function."""

    def __init__(self, site: StateSite, me: str) -> None:
        self._site = site
        self._me = me
        self.servers: dict[type[msgspec.Struct], Callable[[str, msgspec.Struct], Awaitable[msgspec.Struct]]] = {}
        self.asked: list[tuple[str, str]] = []

    def alive(self) -> Sequence[str]:
        """Name all others of the site that run, whether they can be reached or not."""
        return [name for name, node in self._site.nodes.items() if name != self._me and node.running]

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask a node."""
        assert deadline_s > 0
        self.asked.append((node, type(body).__name__))
        if frozenset((self._me, node)) in self._site.cut or node not in self._site.nodes:
            raise QedgeError("peer.unreachable", f"{node} cannot be reached.")
        serve = self._site.nodes[node].peers.servers[type(body)]
        return msgspec.msgpack.decode(msgspec.msgpack.encode(await serve(self._me, body)), type=answer)

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer questions."""
        self.servers[request] = cast(Callable[[str, msgspec.Struct], Awaitable[msgspec.Struct]], serve)


class StateNode:
    """One node: its copy of the shared state, nothing else."""

    def __init__(
        self, site: StateSite, name: str, key: SigningKey, chain: tuple[bytes, ...], config: StateConfig
    ) -> None:
        self.name, self.key, self.chain = name, key, chain
        self.site = site
        self.metrics = Metrics()
        self.bus = MemoryBus(site.broker)
        self.peers = NearPeers(site, name)
        self.trust = site.fleet.trust()
        self.clock = ShiftedClock()
        self.thread = CountingThread()
        self.store = Store(site.folder / f"{name}.sqlite3", metrics=self.metrics)
        self.state = StateService(
            name,
            config,
            Signer(site.fleet.name, name, key, chain),
            self.trust,
            self.peers,
            bus=cast(Bus, self.bus),
            store=self.store,
            thread=self.thread,
            clock=self.clock,
            metrics=self.metrics,
            uniform=random.Random(name).random,
        )
        self.running = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Run and connect."""
        ready = asyncio.Event()
        self._tasks = [asyncio.create_task(self.bus.pump()), asyncio.create_task(self.state.run(ready.set))]
        await ready.wait()
        self.running = True
        await self.bus.connect()

    async def kill(self) -> None:
        """End as after a power cut: what was not written yet is lost."""
        self.running = False
        self.bus.connected = False
        with suppress(ValueError):
            self.site.broker.buses.remove(self.bus)
        self.state._book.dirty.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.store.close()

    def value(self, namespace: str, key: str, writer: str = "") -> bytes | None:
        """Return what this node holds under a key."""
        row = self.state.get(namespace, key, writer)
        return None if row is None else row.value

    def outcome(self, name: str) -> float:
        """Return how many entries came to this."""
        return self.metrics.value("qedge_state_entries_total", (name,))

    def roots(self) -> tuple[str, str]:
        """Return digests of all that is held."""
        found = self.state.listing()
        return found.root_site, found.root_fleet


class StateSite:
    """A fleet on one broker. `cut` holds pairs of nodes that cannot reach each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = MemoryBroker()
        self.fleet = ThrowAwayFleet(FLEET)
        self.nodes: dict[str, StateNode] = {}
        self.cut: set[frozenset[str]] = set()

    async def node(self, name: str, config: StateConfig = QUICK, *, days: int = 30) -> StateNode:
        """Make a node and start it; again after `kill`: with the same key and database."""
        old = self.nodes.get(name)
        key, chain = (old.key, old.chain) if old is not None else self.fleet.member(name, days=days)
        self.nodes[name] = StateNode(self, name, key, chain, config)
        await self.nodes[name].start()
        return self.nodes[name]

    async def close(self) -> None:
        """End all."""
        for node in self.nodes.values():
            if node.running:
                await node.kill()

    def alike(self) -> bool:
        """Say whether all that run hold the same."""
        return len({node.roots() for node in self.nodes.values() if node.running}) == 1
