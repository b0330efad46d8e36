"""Secret key that two daemons with a simulated fibre and a real broker between them distil, in wall seconds.

Both daemons, both link workers with their halves of the simulated hardware, and the broker share this machine. What
counts are bits that lie in both key stores, compared, after what authentication costs: the smaller store counts. The
detector is the superconducting one of the planner, the settings are the planner's for the length and the block, total
epsilon 1e-10. `…_4links_10km_each` has four links between the same two nodes. Baseline of each figure: what the link
would give by plan on hardware in real time.

Windows begin and end with a block in the stores, so that none counts a part of one. A figure is that of the best of its
windows, the one in which the rest of the machine was quietest: this is a figure of the link, not of its neighbours.
`qkd.link_cpu_ms_per_mbit` is the processor time of all processes per secret Mbit, which says what a core gives; shares
of stages are of the time that both workers spend in stages. Beyond 50 km blocks of 2^21 bits take seconds of light, so
that long links are measured with shorter ones.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import uvloop

from benchmarks.broker import Broker
from benchmarks.fleet import Fleet
from benchmarks.kernels import prepare
from benchmarks.node import Node
from benchmarks.report import Figure
from qedge.cli.keys.watch import series_of
from qedge.client.node import NodeClient
from qedge.qkd.planning.channel import RECEIVERS
from qedge.qkd.planning.expectation import PostProcessing
from qedge.qkd.planning.plan import LinkDesign, PlanPoint, plan_point

BLOCK: Final = 1 << 21
FAR_BLOCK: Final = 1 << 20
FAR_KM: Final = 75
EFFICIENCY: Final = 1.15
WARM_BLOCKS: Final = 2
WARM_LIMIT_S: Final = 240.0
WINDOWS: Final = 4
WINDOW_S: Final = 5.0
WINDOW_LIMIT_S: Final = 20.0
LOOK_S: Final = 0.25
LENGTHS_KM: Final = (10, 25, 50, 75, 100)
BOUND_25_MBIT_S: Final = 6.0
BOUND_4_MBIT_S: Final = 2.0

NODE: Final = """
[node]
name = "{name}"
[broker]
url = "mqtt://127.0.0.1:{port}"
[qkd.keys]
max_stored_mbit = 8192
"""
LINK: Final = """
[drivers.qkd{index}]
driver = "sim_qkd"
[drivers.qkd{index}.settings]
role = "{role}"
link = "fibre{index}"
fibre = "unix:{fibre}"
preset = "snspd"
length_km = {length_km}
mean_photon_numbers = {means}
intensity_probabilities = {probabilities}
z_basis_probability = {z_probability}
[qkd.links.fibre{index}]
transceiver = "qkd{index}"
peer = "{peer}"
block_bits = {block}
"""


@dataclass(frozen=True)
class Run:
    """What one set of links gave: Mbit/s of all links together in each window, views of a link, CPU time."""

    rates: tuple[float, ...]
    wire_bits_per_sifted: float
    efficiency: float
    qber: float
    stages: Mapping[str, float]
    cpu_ms_per_mbit: float


def block_of(length_km: float) -> int:
    """Return the bits of a block."""
    return FAR_BLOCK if length_km >= FAR_KM else BLOCK


def planned(length_km: float) -> PlanPoint:
    """Return the plan of a link."""
    design = LinkDesign(RECEIVERS["snspd"], block_of(length_km), processing=PostProcessing(efficiency=EFFICIENCY))
    return plan_point(design, length_km)


def links(role: str, peer: str, folder: Path, point: PlanPoint, length_km: float, number: int) -> str:
    """Write the links of one node."""
    protocol = point.protocol
    return "".join(
        LINK.format(
            index=index,
            role=role,
            peer=peer,
            fibre=folder / f"fibre{index}.sock",
            length_km=float(length_km),
            means=[round(mean, 6) for mean in protocol.mean_photon_numbers],
            probabilities=_probabilities(protocol.intensity_probabilities),
            z_probability=round(protocol.z_probability_alice, 6),
            block=block_of(length_km),
        )
        for index in range(number)
    )


def _probabilities(values: Sequence[float]) -> list[float]:
    rounded = [round(value, 6) for value in values[:-1]]
    return [*rounded, round(1 - sum(rounded), 6)]


async def stored_bits(client: NodeClient) -> float:
    """Return the key of all links that lies in a store and was compared with the other end's."""
    text = await client.metrics()
    return sum(
        value
        for place in ("own", "theirs")
        for value in series_of("\n".join(line for line in text.splitlines() if f'place="{place}"' in line))
        .get("key_bits", {})
        .values()
    )


async def next_block(clients: Sequence[NodeClient]) -> list[float]:
    """Wait until the smaller store has grown by a block, and return what both hold."""
    first, deadline = [await stored_bits(client) for client in clients], time.monotonic() + WINDOW_LIMIT_S
    while True:
        now = [await stored_bits(client) for client in clients]
        if min(now) > min(first) or time.monotonic() > deadline:
            return now
        await asyncio.sleep(LOOK_S)


def cpu_s() -> float:
    """Return the processor time of all processes that this one began, and of theirs."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(each.user + each.system for each in times)


async def measure(nodes: Sequence[Node], number: int) -> Run:
    """Wait until the links run, then count."""
    async with NodeClient(nodes[0].socket) as first, NodeClient(nodes[1].socket) as second:
        clients, deadline = (first, second), time.monotonic() + WARM_LIMIT_S
        while True:
            views = [view for client in clients for view in await client.links()]
            if len(views) == 2 * number and all(view.blocks >= WARM_BLOCKS for view in views):
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"no key: {[(view.name, view.state, view.reason) for view in views]}")
            await asyncio.sleep(0.5)
        before_cpu_s = cpu_s()
        rates: list[float] = []
        costs: list[float] = []
        before, began = await next_block(clients), time.monotonic()
        for _ in range(WINDOWS):
            await asyncio.sleep(WINDOW_S)
            after, now, now_cpu_s = await next_block(clients), time.monotonic(), cpu_s()
            got = min(b - a for a, b in zip(before, after, strict=True)) / 1e6
            rates.append(got / (now - began))
            costs.append(1e3 * (now_cpu_s - before_cpu_s) / got if got else float("inf"))
            before, began, before_cpu_s = after, now, now_cpu_s
        views = [(await client.links())[0] for client in clients]
        stages: dict[str, float] = {}
        for view in views:
            for stage, spent_s in view.stages_s.items():
                stages[stage] = stages.get(stage, 0.0) + spent_s
        total = sum(stages.values()) or 1.0
        return Run(
            tuple(rates),
            views[0].wire_bits_per_sifted,
            views[0].efficiency,
            views[0].qber,
            {stage: spent / total for stage, spent in sorted(stages.items())},
            min(costs),
        )


def between(length_km: float, number: int = 1) -> tuple[Run, PlanPoint]:
    """Run links between two daemons."""
    point = planned(length_km)
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as name, Broker("mosquitto", Path(name) / "b") as broker:
        folder, fleet, nodes = Path(name), Fleet(), []
        for node, role, peer in (("a", "bob", "b"), ("b", "alice", "a")):
            fleet.enrol(folder / node, node)
            config = NODE.format(name=node, port=broker.port)
            nodes.append(Node(folder / node, config + links(role, peer, folder, point, length_km, number)))
        with nodes[0], nodes[1]:
            return uvloop.run(measure(nodes, number)), point


def run() -> list[Figure]:
    """Measure one link at each length, then four."""
    prepare()  # compiled code is kept for all workers of all runs
    figures = []
    for length_km in LENGTHS_KM:
        found, point = between(length_km)
        bound = BOUND_25_MBIT_S if length_km == 25 else None
        figures.append(_rate(f"qkd.secret_mbit_s_{length_km}km", found, point, bound))
        if length_km == 25:
            figures += [
                Figure("qkd.wire_bits_per_sifted", found.wire_bits_per_sifted, "bit", 1),
                Figure("qkd.link_efficiency", found.efficiency, "", 1),
                Figure("qkd.link_qber", found.qber, "", 1),
                Figure("qkd.link_cpu_ms_per_mbit", found.cpu_ms_per_mbit, "ms", WINDOWS),
                *(Figure(f"qkd.stage_share_{stage}", share, "", 1) for stage, share in found.stages.items()),
            ]
    found, point = between(10, 4)
    each = tuple(rate / 4 for rate in found.rates)
    four = Run(each, found.wire_bits_per_sifted, found.efficiency, found.qber, found.stages, found.cpu_ms_per_mbit)
    figures.append(_rate("qkd.secret_mbit_s_4links_10km_each", four, point, BOUND_4_MBIT_S))
    return figures


def _rate(name: str, found: Run, point: PlanPoint, bound: float | None) -> Figure:
    baseline = point.secret_bits_per_s / 1e6
    return Figure(name, max(found.rates), "Mbit/s", WINDOWS, bound, baseline, at_least=True)
