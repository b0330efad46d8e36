"""Several nodes that run each other's jobs, in one event loop, on a network that a test can break."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.engine.config import EngineConfig
from qedge.engine.fake import FakeQpu
from qedge.engine.ports import PeerNode
from qedge.engine.service import EngineService
from qedge.orchestrator.ledger.config import LedgerConfig
from qedge.orchestrator.ledger.model import Grant
from qedge.orchestrator.ledger.service import make_ledger
from qedge.orchestrator.service import JobDesk
from qedge.store.store import Store
from qedge.wire.envelope import purpose_of
from qedge.wire.jobs import JobState, JobSubmission, JobView

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)
ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)


class Memory:
    """A host with much free memory."""

    def available_bytes(self) -> int:
        """Return a gigabyte."""
        return 10**9


class SteppedClock(SystemClock):
    """The clocks of the box, with a wall clock that a test sets forward or back, and time that it lets pass."""

    def __init__(self) -> None:
        super().__init__()
        self.step_ns = 0
        self.ahead_ns = 0

    def now_ns(self) -> int:
        """Return the boot-time clock."""
        return super().now_ns() + self.ahead_ns

    def utc_ns(self) -> int:
        """Return the wall clock."""
        return super().utc_ns() + self.step_ns


class Network:
    """Who reaches whom. `lose_answer` and `deliver_twice` are asked about every call, by caller, callee and purpose."""

    def __init__(self) -> None:
        self.nodes: dict[str, EngineNode] = {}
        self.cut: set[frozenset[str]] = set()
        self.silent_cuts = False
        self.mute: set[str] = set()
        """Nodes that look alive and never answer: they were killed or paused a moment ago."""

        self.lose_answer: Callable[[str, str, str], bool] = lambda *_: False
        self.deliver_twice: Callable[[str, str, str], bool] = lambda *_: False

    def reaches(self, one: str, other: str) -> bool:
        """Say whether two nodes reach each other now."""
        node = self.nodes.get(other)
        return node is not None and node.running and frozenset((one, other)) not in self.cut

    def shows(self, one: str, other: str) -> bool:
        """Say whether a node takes another one to be alive; `silent_cuts` are not noticed."""
        return self.nodes[other].running if self.silent_cuts else self.reaches(one, other)

    def tell_all(self) -> None:
        """Let every node hear that something changed."""
        for node in self.nodes.values():
            for hook in node.peers.hooks:
                hook()


class NetworkPeers:
    """Fills `Peers` for one node; every struct crosses as bytes."""

    def __init__(self, network: Network, me: str) -> None:
        self._network = network
        self._me = me
        self.served: dict[str, tuple[type[msgspec.Struct], Callable[[str, object], Awaitable[msgspec.Struct]]]] = {}
        self.hooks: list[Callable[[], None]] = []

    def nodes(self) -> Sequence[PeerNode]:
        """Describe the others."""
        network = self._network
        return [
            PeerNode(name, network.shows(self._me, name), node.qpu is not None, node.epoch)
            for name, node in network.nodes.items()
            if name != self._me
        ]

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask a node."""
        await asyncio.sleep(0)
        if not self._network.reaches(self._me, node):
            raise QedgeError("peer.unreachable", f"{node} cannot be reached.")
        if node in self._network.mute:
            await asyncio.sleep(deadline_s)
            raise QedgeError("peer.timeout", f"{node} did not answer within {deadline_s} s.")
        purpose = purpose_of(type(body))
        kind, serve = self._network.nodes[node].peers.served[purpose]
        data = msgspec.msgpack.encode(body)
        times = 2 if self._network.deliver_twice(self._me, node, purpose) else 1
        try:
            # a node that is killed while it answers leaves the caller with nothing but its deadline
            async with asyncio.timeout(min(deadline_s, 2.0)):
                replies = [await serve(self._me, msgspec.msgpack.decode(data, type=kind)) for _ in range(times)]
        except TimeoutError as error:
            raise QedgeError("peer.timeout", f"{node} did not answer within {deadline_s} s.") from error
        if self._network.lose_answer(self._me, node, purpose) or not self._network.reaches(self._me, node):
            raise QedgeError("peer.timeout", f"{node} did not answer within {deadline_s} s.")
        try:
            return msgspec.msgpack.decode(msgspec.msgpack.encode(replies[-1]), type=answer)
        except msgspec.DecodeError as error:
            raise QedgeError("bus.bad_message", f"{node} answered what cannot be read.") from error

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer questions."""
        self.served[purpose_of(request)] = (request, serve)  # type: ignore[assignment]

    def on_change(self, hook: Callable[[], None]) -> None:
        """Hear of changes."""
        self.hooks.append(hook)


class EngineNode:
    """One node: job service, forwarding and errands over its own database."""

    def __init__(self, network: Network, name: str, folder: Path, qpu: FakeQpu | None, **settings: float) -> None:
        self.network = network
        self.name = name
        self.path = folder / f"{name}.sqlite3"
        self.qpu = qpu
        self.epoch = 0
        self.running = False
        of_ledger = {key: value for key, value in settings.items() if key in LedgerConfig.__struct_fields__}
        self._ledger = LedgerConfig(**{"lease_s": 0.4, "adopt_after_s": 0.4, **of_ledger})  # type: ignore[arg-type]
        rest = {key: value for key, value in settings.items() if key not in of_ledger}
        self._settings = {"qpu_wait_s": 0.2, "runner_lost_s": 2.0, **rest}
        self._tasks: list[asyncio.Task[None]] = []
        self.peers = NetworkPeers(network, name)
        self.clock = SteppedClock()
        network.nodes[name] = self

    async def start(self) -> None:
        """Start on the database that is there."""
        self.epoch += 1
        self.metrics = Metrics()
        self.store = Store(self.path, metrics=Metrics())
        config = EngineConfig(**self._settings)  # type: ignore[arg-type]
        clock, metrics = self.clock, self.metrics
        self.engine = EngineService(
            config,
            self.store,
            qpus=lambda: [self.qpu] if self.qpu is not None else [],
            memory=Memory(),
            clock=clock,
            metrics=metrics,
            random_bytes=os.urandom,
            node_name=self.name,
        )
        self.peers = NetworkPeers(self.network, self.name)
        self.ledger = make_ledger(
            self.name,
            config,
            self._ledger,
            self.engine,
            self.store,
            self.peers,
            clock=clock,
            metrics=metrics,
            random_bytes=os.urandom,
        )
        self.engine.attach(self.ledger.owner)
        self.desk = JobDesk(self.engine, self.ledger.keeping, self.ledger.drain, clock)
        services = (self.engine, *self.ledger.services)
        ready = [asyncio.Event() for _ in services]
        self._tasks = [
            asyncio.create_task(service.run(event.set)) for service, event in zip(services, ready, strict=True)
        ]
        for event in ready:
            await event.wait()
        self.running = True
        self.network.tell_all()

    async def kill(self) -> None:
        """End at once; the database is all that is left."""
        self.running = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.store.close()
        self.network.tell_all()

    async def submit(self, program: str = "p", **fields: object) -> JobView:
        """Submit a job of client `me`."""
        return await self.desk.submit(JobSubmission(program=program, **{"shots": 10, **fields}), "me")  # type: ignore[arg-type]

    async def end(self, job_id: str, limit_s: float = 20.0) -> JobView:
        """Wait for the end of a job."""
        async with asyncio.timeout(limit_s):
            while (view := await self.desk.job(job_id)).state not in ENDED:
                await self.desk.wait(job_id, 0.2)
        return view

    async def written(self, number: int) -> None:
        """Wait until so many jobs are in the database, and see that there are no more."""
        async with asyncio.timeout(30):
            while len(self.rows()) < number:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert len(self.rows()) == number

    def owns(self, job_id: str) -> bool:
        """Say whether this node owns a job that has not ended."""
        errand = self.ledger.book.errands.get(job_id)
        return errand is not None and not errand.yielded

    def grants(self) -> list[Grant | None]:
        """Return the leases of the jobs that this node owns and that have not ended."""
        return [errand.grant for errand in self.ledger.book.errands.values()]

    def copies(self) -> int:
        """Count the records that this node holds."""
        import sqlite3

        with sqlite3.connect(self.path) as connection:
            row = connection.execute("SELECT count(*) FROM job_copies").fetchone()
        connection.close()
        return int(row[0])

    def rows(self) -> list[tuple[str, str, str]]:
        """Return client, key and state of all jobs in the database."""
        import sqlite3

        with sqlite3.connect(self.path) as connection:
            rows = connection.execute("SELECT client, client_key, state FROM jobs").fetchall()
        connection.close()
        return [(str(row[0]), str(row[1]), str(row[2])) for row in rows]


class EngineSite:
    """Nodes by name; `close` ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = Network()

    async def node(self, name: str, qpu: FakeQpu | None = None, **settings: float) -> EngineNode:
        """Make and start a node."""
        node = EngineNode(self.network, name, self.folder, qpu, **settings)
        await node.start()
        return node

    def runs(self) -> int:
        """Count the runs on all nodes."""
        return sum(len(node.qpu.runs) for node in self.network.nodes.values() if node.qpu is not None)

    async def close(self) -> None:
        """End all nodes."""
        for node in self.network.nodes.values():
            if node.running:
                with suppress(QedgeError):
                    await node.kill()
