"""Interactive requests to a mesh of four nodes while every 20 s one of them is killed, paused or cut off.

Fault schedule (seeded): for 600 s, every 20 s one node in turn is killed (SIGKILL) and started again after 4 s, paused
(SIGSTOP) for 4 s, or cut off from the broker, which is its only way to the others, for 6 s. Requests come at a fixed
rate, to all nodes in turn, whatever became of earlier ones. Each is a job for any node; a client that has no result
after 0.7 s, or gets an error, asks the next node once, with the same key. `availability.answered_in_2s` is the share of
all requests whose result was there within 2 s from their beginning.

`QEDGE_AVAILABILITY_S` sets another length in seconds, for a short look.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.broker import Broker
from benchmarks.cable import Cable
from benchmarks.fleet import Fleet
from benchmarks.node import Node
from benchmarks.report import Figure, percentile
from qedge.base.errors import QedgeError
from qedge.client.node import NodeClient
from qedge.wire.jobs import JobState, JobSubmission
from qedge.wire.mesh import PeerState

LENGTH_S: Final = float(os.environ.get("QEDGE_AVAILABILITY_S", "600"))
EVERY_S: Final = 20.0
RATE_PER_S: Final = 20.0
FIRST_TRY_S: Final = 0.7
LIMIT_S: Final = 2.0
SEED: Final = 7
AWAY_S: Final = {"kill": 4.0, "pause": 4.0, "cut": 6.0}
NAMES: Final = ("a", "b", "c", "d")
BELL: Final = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'
CONFIG: Final = """
[node]
name = "{name}"
[broker]
url = "mqtt://127.0.0.1:{port}"
reconnect_cap_s = 1.0
[mesh]
listen = "off"
[drivers.qrng]
driver = "sim_qrng"
[drivers.qpu]
driver = "sim_qpu"
"""


@dataclass
class Tally:
    """What became of the requests: seconds of those that were answered, and why others were not."""

    asked: int = 0
    times_s: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Member:
    """A node, and its way to the broker."""

    node: Node
    line: Cable


@contextlib.asynccontextmanager
async def mesh(folder: Path) -> AsyncIterator[dict[str, Member]]:
    """Start the nodes, and wait until each knows the QPUs of all others."""
    kind, fleet = "mosquitto" if shutil.which("mosquitto") else "iotcore", Fleet()
    async with contextlib.AsyncExitStack() as stack:
        broker = stack.enter_context(Broker(kind, folder / "broker"))
        members: dict[str, Member] = {}
        for name in NAMES:
            line = await stack.enter_async_context(Cable(broker.port))
            fleet.enrol(folder / name, name)
            node = Node(folder / name, CONFIG.format(name=name, port=line.port))
            members[name] = Member(node, line)
            await asyncio.to_thread(node.__enter__)
            stack.push_async_callback(asyncio.to_thread, node.__exit__)
        await together(members)
        yield members


async def together(members: dict[str, Member]) -> None:
    """Wait until each node sees the QPUs of all others."""
    async with asyncio.timeout(120):
        for member in members.values():
            async with NodeClient(member.node.socket) as client:
                while True:
                    with contextlib.suppress(QedgeError):
                        peers = (await client.peers()).peers
                        able = [peer for peer in peers if any(each.kind == "qpu" for each in peer.capabilities)]
                        if sum(peer.state is PeerState.ALIVE for peer in able) == len(NAMES):
                            break
                    await asyncio.sleep(0.2)


async def trouble(members: dict[str, Member], tally: Tally) -> None:
    """Carry out the schedule."""
    rng = random.Random(SEED)
    end = time.monotonic() + LENGTH_S
    victims = itertools.cycle(NAMES)
    while time.monotonic() + EVERY_S < end:
        begun = time.monotonic()
        fault, member = rng.choice(sorted(AWAY_S)), members[next(victims)]
        tally.faults[fault] += 1
        node = member.node
        if fault == "kill":
            await asyncio.to_thread(node.kill)
        elif fault == "pause":
            os.kill(node.pid, signal.SIGSTOP)
        else:
            member.line.freeze()
        await asyncio.sleep(AWAY_S[fault])
        if fault == "kill":
            await asyncio.to_thread(node.__enter__)
        elif fault == "pause":
            os.kill(node.pid, signal.SIGCONT)
        else:
            member.line.mend()
        await asyncio.sleep(max(0.0, begun + EVERY_S - time.monotonic()))


async def attempt(members: dict[str, Member], name: str, submission: JobSubmission, limit_s: float) -> str:
    """Ask one node; returns nothing once the result is there, or why it is not."""
    try:
        async with asyncio.timeout(limit_s), NodeClient(members[name].node.socket) as client:
            job = await client.submit(submission, wait_s=limit_s)
    except TimeoutError:
        return "no answer"
    except QedgeError as error:
        return error.code
    return "" if job.state is JobState.DONE else f"it is {job.state}"


async def request(members: dict[str, Member], number: int, tally: Tally) -> None:
    """Ask, and ask the next node once where no result comes."""
    submission = JobSubmission(program=BELL, shots=200, seed=number, client_key=f"r{number}", node="any")
    begun = time.monotonic()
    tally.asked += 1
    why = ""
    for turn, limit_s in ((number, FIRST_TRY_S), (number + 1, LIMIT_S)):
        left_s = begun + LIMIT_S - time.monotonic()
        why = await attempt(members, NAMES[turn % len(NAMES)], submission, min(limit_s, left_s))
        if not why:
            break
    taken_s = time.monotonic() - begun
    if not why and taken_s <= LIMIT_S:
        tally.times_s.append(taken_s)
    else:
        tally.failed[why or "late"] += 1


async def measure(folder: Path) -> Tally:
    """Run the schedule with requests all the time."""
    tally = Tally()
    async with mesh(folder) as members:
        for number in range(-40, 0):
            await request(members, number + 40_000_000, Tally())  # what is done once is done
        async with asyncio.TaskGroup() as group:
            faults = group.create_task(trouble(members, tally))
            begun = time.monotonic()
            for number in itertools.count():
                await asyncio.sleep(max(0.0, begun + number / RATE_PER_S - time.monotonic()))
                if faults.done():
                    break
                group.create_task(request(members, number, tally))
        await together(members)
    return tally


def run() -> list[Figure]:
    """Measure and return the figures."""
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as folder:
        tally = asyncio.run(measure(Path(folder)))
    faults = sum(tally.faults.values())
    answered = len(tally.times_s)
    share = answered / tally.asked
    print(f"# faults: {dict(tally.faults)}; not answered in time: {dict(tally.failed)}", flush=True)
    return [
        Figure("availability.answered_in_2s", share, "share", tally.asked, target=0.9999, at_least=True),
        Figure("availability.p50_ms", percentile(tally.times_s, 0.5) * 1000, "ms", answered),
        Figure("availability.p999_ms", percentile(tally.times_s, 0.999) * 1000, "ms", answered),
        Figure("availability.faults", faults, "faults", faults),
    ]
