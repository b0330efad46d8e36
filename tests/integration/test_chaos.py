"""Parts of a node are killed in a seeded random order while jobs come in without pause."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from pathlib import Path

import psutil
import pytest

from qedge.base.errors import QedgeError
from qedge.cli.demo.scenes import heavy_program
from qedge.wire.jobs import JobState, JobSubmission
from tests.integration.daemon_process import DaemonProcess, wait_ended

pytestmark = pytest.mark.integration

PROGRAM = heavy_program(14, 8)
PAUSE_S = 0.4
TRANSIENT = (
    "client.no_daemon",
    "client.timeout",
    "internal.stopping",
    "job.no_qpu",
    "worker.crashed",
    "worker.unavailable",
)
CONFIG = """
[drivers.qpu]
driver = "sim_qpu"
spares = 1
[drivers.qrng]
driver = "sim_qrng"
"""


@pytest.mark.parametrize(
    ("seed", "blows"),
    [
        pytest.param(1, 6, id="short", marks=pytest.mark.long),
        pytest.param(2, 60, id="long", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
async def test_no_accepted_job_is_lost_or_ends_twice_whatever_is_killed(tmp_path: Path, seed: int, blows: int) -> None:
    daemon = DaemonProcess(tmp_path / "n", CONFIG)
    daemon.start()
    try:
        await daemon.wait_up()
        accepted: dict[str, str] = {}
        submitting = asyncio.create_task(_submit_for_ever(daemon, accepted))
        dice = random.Random(seed)
        for _ in range(blows):
            await asyncio.sleep(PAUSE_S)
            _strike(daemon, dice)
        async with asyncio.timeout(120):
            while len(accepted) <= blows:  # so many are accepted in whatever time it takes
                await asyncio.sleep(PAUSE_S)
        submitting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await submitting
        jobs = await wait_ended(daemon, list(accepted.values()), 120)
        # A job may lose its worker to two blows one after the other; then it has to say so.
        assert {job.state for job in jobs} <= {JobState.DONE, JobState.FAILED}
        failed = [job for job in jobs if job.state is JobState.FAILED]
        assert {job.error.code for job in failed if job.error} <= {"worker.crashed", "worker.unavailable"}
        assert len(failed) <= blows
        assert len(jobs) > blows
        async with daemon.client() as client:
            for key, job_id in list(accepted.items())[:10]:
                again = await client.submit(JobSubmission(program=PROGRAM, shots=100, seed=3, client_key=key))
                assert again.id == job_id, "the same request became a second job"
        await daemon.wait_status(lambda status: status.ready and status.bus.connected and status.entropy.healthy, 60)
    finally:
        daemon.stop()


async def _submit_for_ever(daemon: DaemonProcess, accepted: dict[str, str]) -> None:
    """Submit one job after the other; a submission whose answer was lost is repeated with the same key."""
    number = 0
    async with daemon.client() as client:
        while True:
            key = f"job-{number}"
            try:
                job = await client.submit(JobSubmission(program=PROGRAM, shots=100, seed=3, client_key=key))
            except QedgeError as error:
                assert error.code in TRANSIENT, error
                await asyncio.sleep(0.05)
                continue
            accepted[key] = job.id
            number += 1
            await asyncio.sleep(0.04)


def _strike(daemon: DaemonProcess, dice: random.Random) -> None:
    """Kill one part, or ask for a reload in the middle of it all."""
    blow = dice.choice(("child", "child", "child", "daemon", "reload"))
    if blow == "daemon":
        daemon.kill()
        daemon.start()
    elif blow == "reload":
        with contextlib.suppress(ProcessLookupError):
            if _handles_hangup(daemon.pid):
                daemon.signal(signal.SIGHUP)
    else:
        children = psutil.Process(daemon.pid).children(recursive=True)
        if children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(sorted(children, key=lambda child: child.pid)).pid, signal.SIGKILL)


def _handles_hangup(pid: int) -> bool:
    """Say whether the interpreter is up; the unit file ignores the signal until then."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & 1)
