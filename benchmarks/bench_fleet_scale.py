"""A fleet of real daemons on one box, commanded by the fleet tool, and the same engines over 10,000 in virtual time.

`fleet.real_nodes`: daemons (`qedge run`, without drivers) that introduced themselves at one broker;
`fleet.node_pss_mib` is the proportional set size of one, the median. `fleet.rollout_s`: a command to all of them in
waves, from the first request to the end of the last soaking, beside the soaking alone; `fleet.command_ms`: from a
request's signature to the verified report of its end, the median of nodes asked one by one. `fleet.blast_radius`: nodes
that were asked to do what fails at each of them, before the roll-out stopped by itself; its bound is the first wave.
`fleet.world_rollout_s`: seconds of virtual time for a good version on 10,000 nodes of which 2 % are away;
`fleet.world_blast_radius`: as above for versions that are refused by their nodes, and such that die while they soak.

`QEDGE_BENCH_FLEET_NODES` sets the number of daemons (100), `QEDGE_BENCH_WORLD_NODES` that of the world.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from pathlib import Path

from benchmarks.broker import Broker
from benchmarks.fleet import Fleet
from benchmarks.node import Node
from benchmarks.report import Figure
from qedge.base.ids import uuid7
from qedge.base.system_clock import SystemClock
from qedge.bus.config import BusConfig
from qedge.client.fleet_tool.kinds import encode_arguments
from qedge.client.fleet_tool.operator_folder import OperatorFolder
from qedge.client.fleet_tool.rollout_file import RolloutFile
from qedge.client.fleet_tool.rollout_plan import Order, RolloutPlan, cut_waves
from qedge.client.fleet_tool.rollout_run import RolloutRun
from qedge.client.fleet_tool.rollout_view import RolloutView
from qedge.client.fleet_tool.tool import FleetTool
from qedge.crypto.operator_files import OperatorIdentity
from qedge.wire.commands import OperatorRole
from tests.world.rollout_world import RolloutWorld, Version

NODES = int(os.environ.get("QEDGE_BENCH_FLEET_NODES", "100"))
WORLD_NODES = int(os.environ.get("QEDGE_BENCH_WORLD_NODES", "10000"))
WAVES = "1,10%,50%,100%"
SOAK_S = 2.0
WORLD_WAVES = "10,1%,10%,50%,100%"
WORLD_SOAK_S = 300.0
WORLD_ROLLOUT_S = 2400.0
"""Five waves that soak for five minutes each, and what it takes to send and to do it."""
PSS_MIB = 64.0
ONE_BY_ONE = 20
SEEDS = 5
THERE_S = 180.0
AT_ONCE = 8
"""Daemons that start at the same time: most of a start is waiting for the disk and for the broker."""

CONFIG = """
[node]
name = "{name}"
[log]
level = "error"
[http]
enabled = false
[broker]
url = "mqtt://127.0.0.1:{port}"
reconnect_cap_s = 5.0
[mesh]
listen = "off"
pulse_s = 25.6
[host]
sample_interval_s = 10.0
[state]
compare_s = 3600.0
summary_s = 600.0
[devices]
enabled = false
[drivers.none]
driver = "sim_qrng"
enabled = false
[fleet.commands]
synchronised_clock = false
"""


class Site:
    """A broker, daemons that are members of one fleet, and an operator's folder."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.fleet = Fleet()

    @contextmanager
    def running(self, count: int) -> Iterator[list[Node]]:
        """Run `count` daemons, and kill them at the end: leaving in order would say goodbye to each of the others."""
        nodes: list[Node] = []
        began = time.monotonic()
        try:
            with ThreadPoolExecutor(AT_ONCE) as starting:
                for number, _ in enumerate(starting.map(lambda each: self._start(each, nodes), range(count)), 1):
                    if number % 10 == 0 or number == count:
                        tell(f"{number} of {count} daemons run after {time.monotonic() - began:.0f} s")
            yield nodes
        finally:
            for node in nodes:
                node.kill()

    def _start(self, number: int, nodes: list[Node]) -> None:
        """Start one daemon and wait until it is ready; `nodes` has it as soon as there is a process."""
        name = f"n{number:03}"
        self.fleet.enrol(self.folder / name, name)
        node = Node(self.folder / name, CONFIG.format(name=name, port=self.port))
        node.start()
        nodes.append(node)
        node.wait_ready(THERE_S)

    def tool(self) -> FleetTool:
        """Make the tool of an operator who may do everything."""
        key, chain = self.fleet.operator("ann", *OperatorRole)
        folder = self.folder / "ann"
        folder.mkdir()
        return FleetTool(
            OperatorFolder(folder),
            OperatorIdentity(self.fleet.name, "ann", key.algorithm, key.seed, chain, self.fleet.anchor),
            BusConfig(url=f"mqtt://127.0.0.1:{self.port}", session_expiry_s=0),
            clock=SystemClock(),
            random_bytes=secrets.token_bytes,
            uniform=random.random,
        )


def tell(line: str) -> None:
    """Say to who waits how far it is."""
    print(f"fleet-scale: {line}", file=sys.stderr, flush=True)


async def all_there(tool: FleetTool, count: int) -> int:
    """Wait until as many have introduced themselves and said what they can do; returns how many have."""
    deadline = time.monotonic() + THERE_S
    while time.monotonic() < deadline:
        ready = [node for node in await tool.nodes() if node.kinds]
        if len(ready) >= count:
            break
        tell(f"{len(ready)} of {count} have introduced themselves")
    return len(ready)


async def roll_out(tool: FleetTool, order: Order) -> tuple[float, RolloutView]:
    """Roll a command out to all nodes; returns how long it took and where it ended."""
    nodes = [node.name for node in await tool.nodes()]
    utc_ns = time.time_ns()
    plan = RolloutPlan(
        uuid7(utc_ns, secrets.token_bytes),
        tool.fleet,
        tool.operator,
        order,
        cut_waves(nodes, WAVES),
        utc_ns,
        soak_s=SOAK_S,
        settle_s=0.5,
    )
    file = RolloutFile.create(tool.folder.rollout_path(plan.id), plan)
    began = time.monotonic()
    async with aclosing(RolloutRun(tool, file).run()) as views:
        told = 0
        async for view in views:
            last = view
            if view.reached > told:
                told = view.reached
                tell(f"{order.kind}: {view.phase}, {view.reached} of {view.nodes} asked, {len(view.faults)} failed")
    file.close()
    return time.monotonic() - began, last


async def one_by_one(tool: FleetTool, order: Order) -> list[float]:
    """Send a command to one node after the other; returns seconds from the signature to the end of each."""
    took = []
    for node in (await tool.nodes())[:ONE_BY_ONE]:
        began = time.perf_counter()
        await tool.send(order, [node.name])
        took += [time.perf_counter() - began async for view in tool.watch() if view.ended]
    return took


async def command(site: Site, count: int) -> tuple[int, float, RolloutView, RolloutView, list[float]]:
    """Let the tool command the daemons of a site."""
    read: dict[str, bytes] = {}
    good = Order("drain", encode_arguments("drain", ["undo=true"], read.__getitem__))
    failing = Order("restart-worker", encode_arguments("restart-worker", ["driver=missing"], read.__getitem__))
    async with site.tool() as tool:
        there = await all_there(tool, count)
        took = await one_by_one(tool, good)
        rollout_s, done = await roll_out(tool, good)
        if done.phase.value != "done":
            raise AssertionError(f"the roll-out {done.phase}: {done.reason} {done.faults[:3]}")
        _, stopped = await roll_out(tool, failing)
        return there, rollout_s, done, stopped, took


def world() -> tuple[float, int, int]:
    """Return seconds of a good roll-out, and how far failing versions came beside the size of the first wave."""
    good = RolloutWorld(WORLD_NODES, random.Random(1), Version()).play(WORLD_WAVES, soak_s=WORLD_SOAK_S, back=True)
    if good.phase != "done":
        raise AssertionError(f"the roll-out of a good version {good.phase}")
    radius = 0
    for seed in range(SEEDS):
        tell(
            f"a good version on {WORLD_NODES} nodes of the world took {good.took_s:.0f} s; bad ones, {seed} of {SEEDS}"
        )
        for version in (Version(refused=True), Version(dies_after_s=60.0), Version(dies_after_s=250.0)):
            course = RolloutWorld(WORLD_NODES, random.Random(seed), version).play(
                WORLD_WAVES, soak_s=WORLD_SOAK_S, back=True
            )
            if course.phase != "stopped":
                raise AssertionError(f"a failing version {course.phase}")
            radius = max(radius, course.reached, course.began)
    return good.took_s, radius, good.waves[0]


def run() -> list[Figure]:
    """Measure both."""
    world_s, world_radius, world_first = world()
    if world_radius > world_first:
        raise AssertionError(f"a failing version reached {world_radius} nodes; the first wave has {world_first}")
    folder = Path(tempfile.mkdtemp(prefix="qedge-fleet-"))
    try:
        kind = "mosquitto" if shutil.which("mosquitto", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin") else "iotcore"
        with Broker(kind, folder / "broker") as broker:
            site = Site(folder, broker.port)
            with site.running(NODES) as nodes:
                there, rollout_s, done, stopped, took = asyncio.run(command(site, NODES))
                pss = [node.pss_mib() for node in nodes]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [
        Figure("fleet.real_nodes", there, "1", NODES, NODES, at_least=True),
        Figure("fleet.node_pss_mib", statistics.median(pss), "MiB", len(pss), PSS_MIB),
        Figure("fleet.rollout_s", rollout_s, "s", done.nodes, None, len(done.waves) * SOAK_S),
        Figure("fleet.command_ms", statistics.median(took) * 1e3, "ms", len(took)),
        Figure("fleet.blast_radius", stopped.reached, "1", stopped.nodes, stopped.waves[0].size),
        Figure("fleet.world_blast_radius", world_radius, "1", WORLD_NODES, world_first),
        Figure("fleet.world_rollout_s", world_s, "s", WORLD_NODES, WORLD_ROLLOUT_S),
    ]
