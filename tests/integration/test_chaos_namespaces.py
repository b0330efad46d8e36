"""Real daemons on boxes of their own: one is cut off while it has jobs, and comes back with what counts no more."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from qedge.cli.demo.scenes import heavy_program
from qedge.orchestrator.receipts.proof import check
from qedge.wire.jobs import JobState, JobSubmission
from qedge.wire.mesh import PeerState
from tests.integration.daemon_process import ENDED
from tests.integration.fleet_world import QPU, FleetWorld
from tests.integration.namespaces import Switch
from tests.integration.test_ledger import KIND, end

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(240)]

JOBS = 6
PROGRAM = heavy_program(20, 40)
SMALL = QPU + "spares = 0\n"


async def test_jobs_of_a_box_that_is_cut_off_end_elsewhere_once_and_its_own_go_on_without_it(tmp_path: Path) -> None:
    with Switch(*"abc") as switch:
        async with FleetWorld(tmp_path, KIND, switch.host) as world:
            for name in "abc":
                world.start(name, SMALL if name != "a" else "", within=switch.within(name))
            await world.wait_together(*"abc")
            for name in "bc":
                await world.wait_peer("a", name, lambda peer: any(each.kind == "qpu" for each in peer.capabilities))
            # a has no QPU: its jobs are at b and c, the last of them in a queue, when that box is unplugged
            ids = [await _submit(world, "a", seed) for seed in range(JOBS)]
            async with world.daemons["a"].client() as client:
                last = await client.job(ids[-1])
            assert last.state not in ENDED
            struck, other = (last.node, "b" if last.node == "c" else "c")
            switch.unplug(struck)
            try:
                views = [await end(world, "a", job_id) for job_id in ids]
                assert {view.state for view in views} == {JobState.DONE}
                assert views[-1].node == other
            finally:
                switch.plug(struck)
            await world.wait_together(*"abc")
            # what a owns is known to b or c, which go on while a is away, and a learns of the end
            orphans = [await _submit(world, "a", JOBS + seed) for seed in range(2)]
            await _wait_for_copies(world, orphans)
            switch.unplug("a")
            try:
                for name in "bc":
                    await world.wait_state(name, "a", PeerState.DEAD)
                for job_id in orphans:
                    assert (await end(world, "b", job_id)).state is JobState.DONE
            finally:
                switch.plug("a")
            await world.wait_together(*"abc")
            for job_id in orphans:
                assert (await end(world, "a", job_id)).state is JobState.DONE
            await _check_receipts(world, ids)
        _check_ends(tmp_path, {*ids, *orphans})


async def _submit(world: FleetWorld, at: str, seed: int) -> str:
    async with world.daemons[at].client() as client:
        return (await client.submit(JobSubmission(program=PROGRAM, shots=50, seed=seed, node="any"))).id


async def _wait_for_copies(world: FleetWorld, ids: list[str]) -> None:
    """Wait until other boxes know of jobs of a that have not ended, however busy this machine is."""
    async with asyncio.timeout(20), world.daemons["a"].client() as client:
        for job_id in ids:
            while not ((job := await client.job(job_id)).replicated or job.ended_utc_ns):
                await asyncio.sleep(0.05)


async def _check_receipts(world: FleetWorld, ids: list[str]) -> None:
    """What another box did for a stands there with what that box signed, under the lease that counted.

    A box that was cut off took jobs of a for its own; those it ended itself have no receipt.
    """
    async with asyncio.timeout(20), world.daemons["a"].client() as client:
        while not (found := [job for each in ids if (job := await client.job(each)).receipt is not None]):
            await asyncio.sleep(0.2)
    for job in found:
        receipt = check(job, world.fleet.trust())
        assert (receipt.runner, receipt.epoch) == (job.node, job.epoch)


def _check_ends(folder: Path, job_ids: set[str]) -> None:
    """Each job has one outcome in all databases in which it stands."""
    states: dict[str, set[str]] = {}
    for name in "abc":
        with contextlib.closing(sqlite3.connect(folder / name / "qedge.sqlite3", timeout=30)) as connection:
            for job_id, state in connection.execute("SELECT id, state FROM jobs WHERE ended_utc_ns > 0"):
                states.setdefault(job_id, set()).add(state)
    assert {job_id: states.get(job_id) for job_id in job_ids} == {job_id: {"done"} for job_id in job_ids}


async def test_a_switch_leaves_nothing_behind() -> None:
    with Switch("x") as switch:
        switch.unplug("x")
        switch.plug("x")
    found = await asyncio.create_subprocess_exec(*switch.within("x"), "true", stderr=asyncio.subprocess.DEVNULL)
    assert await found.wait() != 0
