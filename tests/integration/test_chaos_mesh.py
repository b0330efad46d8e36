"""Parts of a mesh are struck in a seeded random order under load: nodes, workers, broker, lines and a disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from benchmarks.cable import Cable
from qedge.base.errors import QedgeError
from qedge.cli.demo.scenes import heavy_program
from qedge.wire.jobs import JobState, JobSubmission
from tests.integration.fleet_world import MQTT_ONLY, QPU, FleetWorld
from tests.integration.test_ledger import KIND, TRANSIENT, end

pytestmark = pytest.mark.integration

NAMES = "abc"
SMALL = "c"
"""The node whose disk can be filled."""
PROGRAM = heavy_program(10, 8)
CLIENTS = 4
TRY_S = 2.0
ALLOWED = ("worker.crashed", "worker.unavailable", "job.runner_lost")
"""A job may lose its worker to two blows one after the other; then it has to say so."""


BLOWS = ("node", "pause", "cut", "worker", "broker", "disk")


@dataclass(frozen=True)
class Course:
    """So many jobs of four clients, `pace_s` after each of one; a blow every `pause_s`, or `each` kind just once."""

    seed: int
    jobs: int
    pace_s: float
    pause_s: float
    each: bool
    spares: int
    disk_mb: int
    """Size of the disk that can be filled: a node does not start where less than 64 MiB are free."""


@pytest.mark.parametrize(
    "course",
    [
        pytest.param(
            Course(1, 24, 1.2, 0.5, each=True, spares=0, disk_mb=80), id="short", marks=pytest.mark.timeout(240)
        ),
        pytest.param(
            Course(2, 10_000, 0.02, 4.0, each=False, spares=1, disk_mb=500),
            id="long",
            marks=[pytest.mark.long, pytest.mark.timeout(7200)],
        ),
    ],
)
async def test_every_accepted_job_ends_once_whatever_is_struck(tmp_path: Path, course: Course) -> None:
    with small_disk(tmp_path / SMALL, course.disk_mb):
        await _run(tmp_path, course)


async def _run(folder: Path, course: Course) -> None:
    async with FleetWorld(folder, KIND) as world, contextlib.AsyncExitStack() as stack:
        lines = {name: await stack.enter_async_context(Cable(world.broker.port)) for name in NAMES}
        for name in NAMES:
            world.start(name, f"{QPU}spares = {course.spares}\n{MQTT_ONLY}", port=lines[name].port)
        await world.wait_together(*NAMES)
        accepted: dict[str, str] = {}
        async with asyncio.TaskGroup() as group:
            number = course.jobs // CLIENTS
            loads = [group.create_task(_load(world, turn, number, accepted, course.pace_s)) for turn in range(CLIENTS)]
            striking = group.create_task(_strike(world, lines, course))
            await asyncio.gather(*loads)
            if course.each:
                await striking
            striking.cancel()
        await _heal(world, lines)
        assert len(accepted) == course.jobs // CLIENTS * CLIENTS
        for job_id in accepted.values():
            view = await end(world, "a", job_id)
            assert view.state is JobState.DONE or (view.error is not None and view.error.code in ALLOWED), view
        _check_databases(folder, set(accepted.values()))


async def _load(world: FleetWorld, turn: int, number: int, accepted: dict[str, str], pace_s: float) -> None:
    """Submit one job after the other to nodes in turn; what is not answered goes to the next with the same key."""
    for index in range(number):
        key = f"{turn}-{index}"
        submission = JobSubmission(program=PROGRAM, shots=50, seed=3, client_key=key, node="any")
        for at in range(turn + index, turn + index + 1000):
            try:
                async with asyncio.timeout(TRY_S), world.daemons[NAMES[at % len(NAMES)]].client() as client:
                    accepted[key] = (await client.submit(submission)).id
                break
            except QedgeError as error:
                assert error.code in (*TRANSIENT, "store.disk_full"), error
                await asyncio.sleep(0.1)
            except TimeoutError:
                continue
        await asyncio.sleep(pace_s)


async def _strike(world: FleetWorld, lines: dict[str, Cable], course: Course) -> None:
    """Strike one part after the other; each is whole again before the next one is struck."""
    dice = random.Random(course.seed)
    blows = dice.sample(BLOWS, len(BLOWS)) if course.each else iter(lambda: dice.choice(BLOWS), "")
    for blow in blows:
        await asyncio.sleep(course.pause_s)
        await _blow(blow, dice.choice(NAMES), world, lines, dice)


async def _blow(blow: str, name: str, world: FleetWorld, lines: dict[str, Cable], dice: random.Random) -> None:
    daemon = world.daemons[name]
    match blow:
        case "node":
            daemon.kill()
            await asyncio.sleep(dice.uniform(0.1, 2.0))
            daemon.start()
            await daemon.wait_up(60)
        case "pause":
            daemon.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(dice.uniform(0.5, 3.0))
            finally:
                daemon.signal(signal.SIGCONT)
        case "cut":
            lines[name].freeze()
            try:
                await asyncio.sleep(dice.uniform(0.5, 3.0))
            finally:
                lines[name].mend()
        case "worker":
            children = sorted(psutil.Process(daemon.pid).children(recursive=True), key=lambda child: child.pid)
            if children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(dice.choice(children).pid, signal.SIGKILL)
        case "broker":
            world.broker.kill()
            await asyncio.sleep(dice.uniform(0.1, 1.0))
            world.broker.start()
        case "disk":
            filler = world.folder / SMALL / "filler"
            if os.path.ismount(filler.parent):
                await asyncio.to_thread(_fill, filler)
                await asyncio.sleep(dice.uniform(0.5, 2.0))
                filler.unlink()


def _fill(filler: Path) -> None:
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as full:
        while True:
            full.write(bytes(1 << 16))


@contextlib.contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[None]:
    """Put a disk of so many MB at `folder`, where this box lets tests mount; else none of the blows fills one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


async def _heal(world: FleetWorld, lines: dict[str, Cable]) -> None:
    for line in lines.values():
        line.mend()
    for name in NAMES:
        if not world.daemons[name].is_alive():
            world.daemons[name].start()
    await world.wait_together(*NAMES)


def _check_databases(folder: Path, job_ids: set[str]) -> None:
    """Each accepted job has ended in the database of its owner, once, and no client's key stands for two jobs."""
    ends: dict[str, set[str]] = {}
    keys: dict[str, set[str]] = {}
    for name in NAMES:
        with contextlib.closing(sqlite3.connect(folder / name / "qedge.sqlite3", timeout=30)) as connection:
            rows = connection.execute(
                "SELECT id, client_key, state FROM jobs WHERE client NOT LIKE 'node:%' AND ended_utc_ns > 0"
            ).fetchall()
        for job_id, key, state in rows:
            ends.setdefault(job_id, set()).add(state)
            if key:
                keys.setdefault(key, set()).add(job_id)
    assert job_ids <= set(ends)
    assert {job_id: states for job_id, states in ends.items() if len(states) > 1} == {}
