"""Jobs in parts on real daemons: the same answer as in one piece, from several nodes, whatever dies in between."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from qedge.cli.demo.scenes import heavy_program
from qedge.client.node import NodeClient
from qedge.wire.jobs import JobState, JobSubmission, JobView
from qedge.wire.mesh import PeerState
from qedge.wire.tasks import KernelResult, KernelTask
from tests.integration.fleet_world import QPU, FleetWorld

pytestmark = pytest.mark.integration

TURN = 'OPENQASM 3; include "stdgates.inc"; input float t; qubit[2] q; ry(t) q[0]; cx q[0], q[1];'
ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)


async def ended(client: NodeClient, submission: JobSubmission) -> JobView:
    """Submit a job and return how it ended."""
    view = await client.submit(submission)
    async with asyncio.timeout(90):
        while view.state not in ENDED:
            view = await client.job(view.id, wait_s=5)
    return view


async def test_parts_run_on_several_nodes_give_what_one_piece_gives_and_outlive_a_runner(tmp_path: Path) -> None:
    async with FleetWorld(tmp_path, "iotcore") as world:
        for node in "abc":
            world.start(node, "" if node == "a" else QPU)
        await world.wait_together("a", "b", "c")
        for runner in "bc":
            await world.wait_peer("a", runner, lambda peer: any(each.kind == "qpu" for each in peer.capabilities))
        async with world.daemons["a"].client() as client:
            task = KernelTask(("t",), tuple((index / 7,) for index in range(9)))
            whole = await ended(client, JobSubmission(program=TURN, task=task, node="any"))
            parts = await ended(client, JobSubmission(program=TURN, task=task, parts=6))
            assert whole.result is not None
            assert parts.result is not None
            one, other = whole.result.data, parts.result.data
            assert isinstance(one, KernelResult)
            assert isinstance(other, KernelResult)
            for row, again in zip(one.values, other.values, strict=True):
                assert row == pytest.approx(again, abs=1e-5)
            heavy = JobSubmission(program=heavy_program(18, 10), shots=4000, parts=16, seed=3)
            submitted = await client.submit(heavy)
            await asyncio.sleep(0.1)
            world.daemons["b"].kill()
            view = await client.job(submitted.id, wait_s=30)
            async with asyncio.timeout(90):
                while view.state not in ENDED:
                    view = await client.job(submitted.id, wait_s=5)
            assert view.state is JobState.DONE
            assert view.result is not None
            assert sum(view.result.counts.values()) == 4000
            assert {part.node for part in view.result.parts} <= {"b", "c"}
            world.daemons["b"].start()
            await world.wait_state("a", "b", PeerState.ALIVE)
            again = await ended(client, JobSubmission(program=heavy.program, shots=4000, parts=16, seed=3, fresh=True))
            assert again.result is not None
            assert again.result.counts == view.result.counts  # seeds of parts follow from that of the job
