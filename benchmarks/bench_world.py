"""A fleet of 10,000 nodes in virtual time: 50 sites of 200, with the engines of the daemon and its default settings.

Each site starts within a second, lives through churn (5 % of its nodes a minute die, restart, leave or join, and each
measures its QPU anew once a minute), and is parted: in every fifth site the partition goes through the site, and the
lines between the sites are cut for 25 s. `world.join_s`: from the first start of a site until all its nodes see all
alive and hold the same. `world.converge_s`: from the end of a partition to the same, the slowest site, or all 10,000
nodes holding the same of the fleet, whichever takes longer. `world.messages_per_node_min`: sent and received by a node
during churn, all kinds, on average. `world.state_kib_per_node`: all entries that a node holds at most, as they are
stored with their signatures, and a certificate of each writer. Sites run one after the other on each core, each to its
end, then the fleet with what sites said of themselves (`tests/world/state_world.py` says why that is the same).
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable

from benchmarks.fleet import Fleet
from benchmarks.report import Figure
from qedge.orchestrator.state.hybrid_clock import stamp_of
from qedge.orchestrator.state.proof import Signer
from qedge.wire.state import StateEntry
from tests.world.state_world import SiteStory
from tests.world.story import Plan, Report, play

SITES, SIZE = 50, 200
JOIN_S = 6.0
CONVERGE_S = 60.0
MESSAGES_MIN = 9000.0
STATE_KIB = 16_384.0


def stored_kib(report: Report, writers: int) -> float:
    """Return the size of what one node holds, from real entries that were signed with ML-DSA-65."""
    key, chain = Fleet().member("node")
    signer = Signer("bench", "node", key, chain)
    value = secrets.token_bytes(200)
    entry = signer.sign(StateEntry("calibration", "qpu", stamp_of(time.time_ns()), value=value))
    assert entry.proof is not None
    each = len(entry.proof.covered) + len(entry.proof.signature)
    return ((report.site_entries + report.fleet_entries) * each + writers * sum(map(len, chain))) / 1024


def run() -> list[Figure]:
    """Run the story, telling on standard error how far it is."""
    started = time.monotonic()

    def tell(line: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {line}", file=sys.stderr, flush=True)

    plan = Plan(int(os.environ.get("QEDGE_BENCH_SITES", SITES)), SIZE)
    workers = max(1, min(len(os.sched_getaffinity(0)), plan.sites))
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=4) as pool:

        def each(work: Callable[[int], SiteStory], numbers: Iterable[int]) -> Iterable[SiteStory]:
            return pool.imap_unordered(work, numbers)

        report = play(plan, 1, tell, each)
    if report.false_deaths:
        raise AssertionError(f"{report.false_deaths} nodes that lived were called dead")
    # A node knows the certificates of its own site, and of the nodes that spoke for the others.
    writers = SIZE + report.fleet_entries
    nodes = report.nodes
    return [
        Figure("world.join_s", report.joined_s, "s", nodes, JOIN_S),
        Figure("world.converge_s", max(report.site_healed_s, report.fleet_healed_s), "s", nodes, CONVERGE_S),
        Figure("world.messages_per_node_min", report.messages_min, "1/min", nodes, MESSAGES_MIN),
        Figure("world.state_kib_per_node", stored_kib(report, writers), "KiB", nodes, STATE_KIB),
        Figure("world.changes", report.changes, "1", nodes),
    ]
