"""Jobs that any node may run: four daemons with a QPU each, one broker, 2,000 small jobs, and batch jobs beside.

`mesh.rate_share`: rate of 2,000 small jobs for `any`, submitted unevenly (half of the clients at one node), over the
summed rate of the four nodes when each runs its quarter by itself. Both use the same box: four nodes on two cores share
them in either case, so the figure says what the mesh costs and not how many cores there are. Both in turn, the median
of the ratios. `mesh.cpu_share` is the processor time of a job by itself over that in the mesh, of daemons, workers and
broker together: on a box that is busy with other things it says the same with less noise. The same `_one_origin`: all
clients are at one node, from where three of four jobs cross.
`mesh.placement_ms`: p99 of one decision among fifty nodes, in processor time. `mesh.interactive_p99_added_ms`: p99 of
interactive jobs, one after the other at one node, while batch jobs wait at all nodes, less that of the same without
them, each of its quietest round; their client is a process of its own, since that of the batch jobs is busy reading
large results.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import uvloop

from benchmarks.broker import Broker
from benchmarks.circuits import brickwork
from benchmarks.fleet import Fleet
from benchmarks.lone_client import ask, run_small
from benchmarks.node import Node
from benchmarks.report import Figure, Machine, percentile, quietest
from qedge.client.node import NodeClient
from qedge.orchestrator.placement.book import LoadBook, NodeFacts
from qedge.orchestrator.placement.model import Demand, PlacementPolicy, QpuFacts
from qedge.orchestrator.placement.placer import FleetPlacer
from qedge.wire.jobs import JobState, JobSubmission, LatencyClass
from qedge.wire.load import NodeLoad
from qedge.wire.mesh import PeerState

NODES = ("a", "b", "c", "d")
JOBS = 2000
ROUNDS = 3
CLIENTS = (16, 8, 4, 4)
"""Requests that are under way at each node; in the even case eight at each."""
BATCH_QUBITS, BATCH_DEPTH, BATCH_SHOTS = 18, 20, 20_000
BATCH_WAITING = 3
INTERACTIVE = 200
CANDIDATES = 50
DECISIONS = 2000
READY_LIMIT_S = 120.0

CONFIG = """
[node]
name = "{name}"
[broker]
url = "mqtt://127.0.0.1:{port}"
[drivers.qpu]
driver = "sim_qpu"
spares = 1
[drivers.qrng]
driver = "sim_qrng"
[engine]
assess_every_s = 0
"""


class Site:
    """Four nodes and a client of each; every program differs, so that nothing is answered from memory."""

    def __init__(self, clients: Sequence[NodeClient], sockets: Sequence[Path], pids: Sequence[int]) -> None:
        self.clients = clients
        self._sockets = sockets
        self._pids = pids
        self._seeds = itertools.count(1)

    async def run(self, client: NodeClient, node: str) -> float:
        """Run one small job; returns milliseconds."""
        return await run_small(client, node, next(self._seeds))

    def cpu_s(self) -> float:
        """Return the processor time that all processes of the site have used."""
        total_s = 0.0
        for pid in self._pids:
            process = psutil.Process(pid)
            for each in (process, *process.children(recursive=True)):
                times = each.cpu_times()
                total_s += times.user + times.system
        return total_s

    async def rate(self, under_way: Sequence[int], node: str) -> tuple[float, float]:
        """Run all jobs with so many requests under way at each node; returns jobs a second and processor time."""
        turns = iter(range(JOBS))  # shared: who is free takes the next

        async def work(client: NodeClient) -> None:
            for _ in turns:
                await self.run(client, node)

        started, before_s = time.perf_counter(), self.cpu_s()
        async with asyncio.TaskGroup() as group:
            for client, number in zip(self.clients, under_way, strict=True):
                for _ in range(number):
                    group.create_task(work(client))
        return JOBS / (time.perf_counter() - started), self.cpu_s() - before_s

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[None]:
        """Keep batch jobs waiting at all nodes."""

        async def work(client: NodeClient) -> None:
            while True:
                text = brickwork(BATCH_QUBITS, BATCH_DEPTH, next(self._seeds))
                submission = JobSubmission(
                    program=text, shots=BATCH_SHOTS, node="any", latency_class=LatencyClass.BATCH
                )
                view = await client.submit(submission, wait_s=30)
                assert view.state in (JobState.DONE, JobState.QUEUED, JobState.RUNNING), view.error

        tasks = [asyncio.create_task(work(client)) for client in self.clients for _ in range(BATCH_WAITING)]
        await asyncio.sleep(1.0)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for client in self.clients:
                for job in await client.jobs(200):
                    if job.state in (JobState.QUEUED, JobState.RUNNING):
                        await client.wait(job.id, timeout_s=60)

    async def interactive(self) -> list[float]:
        """Run interactive jobs one after the other, with pauses as a person makes them."""
        first = next(self._seeds)
        self._seeds = itertools.count(first + INTERACTIVE)
        return await ask(self._sockets[0], "any", INTERACTIVE, first)


async def wait_until_all_see_all(clients: Sequence[NodeClient]) -> None:
    """Wait until each node knows that the others are alive, what they can do and how busy they are."""
    async with asyncio.timeout(READY_LIMIT_S):
        for client in clients:
            while True:
                peers = (await client.peers()).peers
                able = [each for each in peers if each.state is PeerState.ALIVE and each.capabilities and each.load]
                if len(able) == len(clients):
                    break
                await asyncio.sleep(0.2)


async def measure(nodes: Sequence[Node], broker: Broker, machine: Machine) -> list[Figure]:
    """Measure rates and delays."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(NodeClient(node.socket)) for node in nodes]
        await wait_until_all_see_all(clients)
        site = Site(clients, [node.socket for node in nodes], [*(node.pid for node in nodes), broker.pid])
        alone, shared, crossed = (list[tuple[float, float]]() for _ in range(3))
        idle, loaded = list[list[float]](), list[list[float]]()
        for client in clients:
            for _ in range(20):
                await site.run(client, "")
        for _ in range(ROUNDS):
            machine.look()
            alone.append(await site.rate((8, 8, 8, 8), ""))
            shared.append(await site.rate(CLIENTS, "any"))
            crossed.append(await site.rate((32, 0, 0, 0), "any"))
        for _ in range(ROUNDS):
            machine.look()
            machine.look_at_disk()
            idle.append(await site.interactive())
            async with site.batch():
                loaded.append(await site.interactive())
    share = statistics.median(got[0] / own[0] for got, own in zip(shared, alone, strict=True))
    one = statistics.median(got[0] / own[0] for got, own in zip(crossed, alone, strict=True))
    cpu = statistics.median(own[1] / got[1] for got, own in zip(shared, alone, strict=True))
    cpu_one = statistics.median(own[1] / got[1] for got, own in zip(crossed, alone, strict=True))
    rate, rate_alone = (statistics.median(each[0] for each in found) for found in (shared, alone))
    job_ms = statistics.median(each[1] for each in alone) / JOBS * 1e3
    before, after = percentile(quietest(idle), 0.99), percentile(quietest(loaded), 0.99)
    middle = statistics.median(quietest(loaded))
    return [
        Figure("mesh.rate_share", share, "ratio", JOBS * ROUNDS, 0.9, at_least=True),
        Figure("mesh.rate", rate, "jobs/s", JOBS * ROUNDS, None, rate_alone),
        Figure("mesh.cpu_share", cpu, "ratio", JOBS * ROUNDS),
        Figure("mesh.job_cpu_ms", job_ms, "ms", JOBS * ROUNDS),
        Figure("mesh.rate_share_one_origin", one, "ratio", JOBS * ROUNDS),
        Figure("mesh.cpu_share_one_origin", cpu_one, "ratio", JOBS * ROUNDS),
        Figure("mesh.interactive_p99_added_ms", max(0.0, after - before), "ms", INTERACTIVE * ROUNDS, 10, before),
        Figure("mesh.interactive_p50_ms", middle, "ms", INTERACTIVE * ROUNDS, None, statistics.median(quietest(idle))),
    ]


def decisions() -> list[float]:
    """Return the processor time of single decisions among fifty nodes with all kinds of wishes, in milliseconds."""
    rng = random.Random(1)
    now_ns = 0
    load = NodeLoad(1, 0, 2, 1, (0, 1, 2), (0.0, 0.1, 0.5), 2**33)
    book = LoadBook(lambda: load)
    names = [f"n{number}" for number in range(CANDIDATES)]
    qpus = (QpuFacts("qpu", 30, frozenset({"state_vector", "mps"}), "all", 1e6),)
    book.know(NodeFacts(name, name == "n0", True, 1, qpus, frozenset({"roof", name})) for name in names)
    placer = FleetPlacer(book, now_ns=lambda: now_ns, uniform=rng.random)
    plain = Demand("", 10, "mps", 1000, 0.01, 2**20, 1000, LatencyClass.INTERACTIVE, PlacementPolicy.BALANCED)
    times = []
    for turn in range(DECISIONS):
        now_ns += 1_000_000
        if turn % 20 == 0:
            for serial, name in enumerate(names):
                book.take(
                    name, NodeLoad(1, turn + serial + 1, 2, 1, (0, 1, 2), (0.0, rng.random(), 1.0), 2**33), now_ns
                )
        policy = (PlacementPolicy.FASTEST, PlacementPolicy.BALANCED, PlacementPolicy.PACK)[turn % 3]
        demand = replace(plain, job_id=str(turn), policy=policy, labels=("roof",), avoid=("n7",), deadline_s=60.0)
        started = time.thread_time_ns()
        assert placer.place(demand).node
        times.append((time.thread_time_ns() - started) / 1e6)
    return times


def run() -> list[Figure]:
    """Measure decisions in this process, the rest with daemons."""
    machine = Machine()
    placing = quietest([decisions() for _ in range(ROUNDS)])
    figures = [Figure("mesh.placement_ms", percentile(placing, 0.99), "ms", DECISIONS, 1.0, statistics.median(placing))]
    kind = "mosquitto" if shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists() else "iotcore"
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as name, Broker(kind, Path(name) / "broker") as broker:
        fleet, nodes = Fleet(), list[Node]()
        with ExitStack() as stack:
            for each in NODES:
                fleet.enrol(Path(name) / each, each)
                nodes.append(stack.enter_context(Node(Path(name) / each, CONFIG.format(name=each, port=broker.port))))
            figures += uvloop.run(measure(nodes, broker, machine))
    return [*figures, *machine.disk_figures(), machine.figure()]
