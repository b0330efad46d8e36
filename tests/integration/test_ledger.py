"""A mesh of daemons that are killed, paused, drained and restarted: what was accepted ends once, wherever asked."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.cli.demo.scenes import heavy_program
from qedge.wire.jobs import JobState, JobSubmission, JobView
from qedge.wire.mesh import PeerState
from tests.integration.bus_site import MOSQUITTO
from tests.integration.fleet_world import QPU, FleetWorld

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

KIND = "mosquitto" if MOSQUITTO else "iotcore"
SHORT = heavy_program(4, 2)
LONG = heavy_program(20, 30)
"""Seconds of simulation."""
TRANSIENT = (
    "client.no_daemon",
    "client.timeout",
    "internal.stopping",
    "job.draining",
    "job.no_qpu",
    "job.queue_full",
    "worker.crashed",
    "worker.unavailable",
)
ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)
CLASS_LIMIT_S = 90.0


@contextlib.asynccontextmanager
async def mesh(folder: Path, names: str = "abc", extra: str = QPU) -> AsyncIterator[FleetWorld]:
    """Start nodes that all have a QPU, and wait until each knows that of all others."""
    async with FleetWorld(folder, KIND) as world:
        for name in names:
            world.start(name, extra)
        await world.wait_together(*names)
        for at in names:
            for of in names:
                if at != of:
                    await world.wait_peer(at, of, lambda peer: any(each.kind == "qpu" for each in peer.capabilities))
        yield world


async def submit(world: FleetWorld, at: str, key: str, program: str = SHORT, **fields: object) -> JobView:
    """Submit a job for any node, again and again with the same key until a node accepts it."""
    submission = JobSubmission(program=program, shots=100, seed=7, client_key=key, node="any", **fields)  # type: ignore[arg-type]
    while True:
        try:
            async with world.daemons[at].client() as client:
                return await client.submit(submission)
        except QedgeError as error:
            assert error.code in TRANSIENT, error
            await asyncio.sleep(0.1)


async def copied(world: FleetWorld, at: str, job_id: str) -> None:
    """Wait until another node holds a record of a job, or it has ended."""
    async with asyncio.timeout(CLASS_LIMIT_S), world.daemons[at].client() as client:
        while not (view := await client.job(job_id)).replicated and view.state not in ENDED:
            await asyncio.sleep(0.05)


async def end(world: FleetWorld, at: str, job_id: str, limit_s: float = CLASS_LIMIT_S) -> JobView:
    """Wait for the end of a job at a node, which need not be the one that accepted it."""
    deadline = time.monotonic() + limit_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            async with world.daemons[at].client() as client:
                last = view = await client.job(job_id, wait_s=2.0)
            if view.state in ENDED:
                return view
        except QedgeError as error:
            assert error.code in (*TRANSIENT, "job.not_found"), error
            last = error
            await asyncio.sleep(0.1)
    raise AssertionError(f"{job_id} never ended at {at}: {last}; {world.daemons[at].log()[-3000:]}")


async def runner_of(world: FleetWorld, at: str, job_id: str) -> str:
    """Return the node on which a job runs."""
    async with asyncio.timeout(CLASS_LIMIT_S), world.daemons[at].client() as client:
        while (view := await client.job(job_id)).state is not JobState.RUNNING or not view.node:
            assert view.state is JobState.QUEUED, view
            await asyncio.sleep(0.05)
        return view.node


@pytest.mark.long
async def test_the_jobs_of_a_node_that_is_killed_end_elsewhere_and_its_client_finds_them_there(tmp_path: Path) -> None:
    async with mesh(tmp_path) as world:
        jobs = [await submit(world, "a", f"k{index}") for index in range(4)]
        slow = await submit(world, "a", "slow", LONG)
        await copied(world, "a", slow.id)
        world.daemons["a"].kill()
        again = [await submit(world, "b", "slow", LONG) for _ in range(5)]
        assert {job.id for job in again} == {slow.id}
        views = {at: [await end(world, at, job.id) for job in (*jobs, slow)] for at in "bc"}
        assert {view.state for view in views["b"]} == {JobState.DONE}
        assert [view.result for view in views["b"]] == [view.result for view in views["c"]]
        world.daemons["a"].start()
        await world.wait_state("b", "a", PeerState.ALIVE)
        for job, there in zip((*jobs, slow), views["b"], strict=True):
            here = await end(world, "a", job.id)
            assert here.state is JobState.DONE
            assert here.result is not None
            assert there.result is not None
            assert here.result.counts == there.result.counts


@pytest.mark.long
async def test_a_runner_that_is_paused_loses_its_jobs_and_its_late_result_counts_for_nothing(tmp_path: Path) -> None:
    async with mesh(tmp_path) as world:
        accepted = await submit(world, "a", "slow", LONG)
        await copied(world, "a", accepted.id)
        runner = await runner_of(world, "a", accepted.id)
        if runner == "a":
            # the owner runs it itself: it is paused, and another one adopts the job
            world.daemons["a"].signal(signal.SIGSTOP)
            view = await end(world, "b", accepted.id)
            world.daemons["a"].signal(signal.SIGCONT)
        else:
            world.daemons[runner].signal(signal.SIGSTOP)
            view = await end(world, "a", accepted.id)
            world.daemons[runner].signal(signal.SIGCONT)
        assert view.state is JobState.DONE
        assert view.node != runner
        await world.wait_together("a", "b", "c")
        await asyncio.sleep(2)
        after = await end(world, "a", accepted.id)
        assert (after.state, after.node) == (JobState.DONE, view.node)
        assert after.result == view.result


@pytest.mark.long
async def test_a_rolling_restart_and_a_drain_under_load_fail_no_job(tmp_path: Path) -> None:
    async with mesh(tmp_path) as world:
        accepted: dict[str, str] = {}
        stop = asyncio.Event()

        async def load(turn: int) -> None:
            number = 0
            while not stop.is_set():
                key = f"{turn}-{number}"
                at = "abc"[(turn + number) % 3]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(3):
                        accepted[key] = (await submit(world, at, key)).id
                        number += 1
                        await asyncio.sleep(0.15)
                        continue
                # its node is away: the same request to another one
                at = "abc"[(turn + number + 1) % 3]
                accepted[key] = (await submit(world, at, key)).id
                number += 1

        loads = [asyncio.create_task(load(turn)) for turn in range(2)]
        for name in "abc":
            await asyncio.to_thread(world.daemons[name].stop)
            world.daemons[name].start()
            await world.daemons[name].wait_up(90)
            await world.wait_together("a", "b", "c")
        async with world.daemons["b"].client() as client:
            view = await client.fleet.drain()
            async with asyncio.timeout(CLASS_LIMIT_S):
                while view.state != "empty":
                    await asyncio.sleep(0.1)
                    view = await client.fleet.drain_view()
            with pytest.raises(QedgeError) as error:
                await client.submit(JobSubmission(program=SHORT))
            assert error.value.code == "job.draining"
            assert (await client.fleet.drain(undo=True)).state == "open"
        stop.set()
        await asyncio.gather(*loads)
        assert len(accepted) > 10
        views = [await end(world, "c", job_id) for job_id in accepted.values()]
        wrong = [(view.id, view.state, view.error) for view in views if view.state is not JobState.DONE]
        assert not wrong
