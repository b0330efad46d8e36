"""A process with one client, which runs small jobs one after the other: what others ask for does not hold it up.

`python -m benchmarks.lone_client SOCKET NODE COUNT SEED` prints the milliseconds that each job took, as a JSON list.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import msgspec
import uvloop

from benchmarks.circuits import brickwork
from qedge.client.node import NodeClient
from qedge.wire.jobs import JobState, JobSubmission

QUBITS, DEPTH, SHOTS = 10, 10, 1000
PAUSE_S = 0.01


async def run_small(client: NodeClient, node: str, seed: int) -> float:
    """Run one small job; returns milliseconds."""
    submission = JobSubmission(program=brickwork(QUBITS, DEPTH, seed), shots=SHOTS, node=node)
    started = time.perf_counter()
    view = await client.submit(submission, wait_s=30)
    if view.state in (JobState.QUEUED, JobState.RUNNING):  # a box this slow loses peers, and moves jobs
        view = await client.wait(view.id, timeout_s=120)
    took_ms = (time.perf_counter() - started) * 1e3
    assert view.state is JobState.DONE, view.error
    return took_ms


async def ask(socket: Path, node: str, count: int, seed: int) -> list[float]:
    """Run jobs one after the other in a process of their own, with pauses as a person makes them."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.lone_client",
        str(socket),
        node,
        str(count),
        str(seed),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return msgspec.json.decode(out, type=list[float])


async def _main(socket: Path, node: str, count: int, seed: int) -> list[float]:
    times = []
    async with NodeClient(socket) as client:
        for number in range(count):
            times.append(await run_small(client, node, seed + number))
            await asyncio.sleep(PAUSE_S)
    return times


if __name__ == "__main__":
    taken = uvloop.run(_main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    sys.stdout.write(msgspec.json.encode(taken).decode())
