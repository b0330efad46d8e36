"""Kinds of jobs, templates and batches through a real daemon and its client."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator

import pytest

from qedge.base.errors import QedgeError
from qedge.client.node import NodeClient
from qedge.wire.jobs import JobState, JobSubmission
from qedge.wire.tasks import (
    AmplitudeTask,
    ExpectationResult,
    ExpectationTask,
    KernelResult,
    KernelTask,
    QaoaResult,
    QaoaTask,
    QecResult,
    QecTask,
    SampleResult,
    SampleTask,
)
from tests.integration.daemon_process import BELL, DaemonProcess

pytestmark = pytest.mark.integration

TURN = 'OPENQASM 3.0; include "stdgates.inc"; input float a; qubit[2] q; ry(a) q[0]; cx q[0], q[1];'


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One node with a QPU; each test has jobs of its own."""
    made = DaemonProcess(tmp_path_factory.mktemp("kinds") / "home", '[drivers.qpu]\ndriver = "sim_qpu"\n')
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def client(daemon: DaemonProcess) -> AsyncIterator[NodeClient]:
    await daemon.wait_up()
    async with NodeClient(daemon.socket) as node:
        yield node


async def test_a_job_that_has_ended_when_it_is_accepted_comes_with_its_result(client: NodeClient) -> None:
    at_once = 0
    for seed in range(20):
        job = await client.submit(JobSubmission(BELL, shots=10, seed=seed, fresh=True))
        assert job.state is not JobState.DONE or job.result is not None
        at_once += job.state is JobState.DONE
        batch = await client.submit_batch([JobSubmission(BELL, shots=10, seed=seed)])
        assert all(each.job is not None and (each.job.state is not JobState.DONE or each.job.result) for each in batch)
    assert at_once > 0


async def test_every_kind_of_job_runs_and_is_kept(client: NodeClient) -> None:
    sweep = {"a": (0.0, 1.0, math.pi)}
    tasks = [
        (ExpectationTask(({"Z0": 1.0}, {"X0 X1": 1.0}), sweep=sweep), ExpectationResult),
        (SampleTask(sweep=sweep, memory=True), SampleResult),
        (KernelTask(("a",), ((0.0,), (1.0,))), KernelResult),
        (QaoaTask(4, ((0, 1, 1.0), (1, 2, 1.0)), layers=1), QaoaResult),
        (QecTask(distance=3, rounds=5, error_rate=0.005, window=4, commit=2), QecResult),
    ]
    for task, kind in tasks:
        program = "" if kind in (QaoaResult, QecResult) else TURN
        submission = JobSubmission(program, shots=300, task=task, measure_all=kind is SampleResult)
        job = await client.submit(submission, wait_s=30)
        assert job.state is JobState.DONE, job.error
        kept = (await client.job(job.id)).result
        assert kept is not None
        assert isinstance(kept.data, kind)
        if isinstance(kept.data, ExpectationResult):
            assert [round(row[0], 4) for row in kept.data.values] == [1.0, round(math.cos(1.0), 4), -1.0]


async def test_templates_and_batches(client: NodeClient) -> None:
    kept = await client.add_template(TURN)
    assert (await client.template(kept.template)).program == TURN
    with pytest.raises(QedgeError) as caught:
        await client.add_template("OPENQASM 3.0; nonsense")
    assert caught.value.code.startswith("circuit.")
    jobs = [
        JobSubmission(template=kept.template, parameters={"a": 0.0}, measure_all=True, shots=10),
        JobSubmission(template=kept.template, measure_all=True, shots=10),
        JobSubmission(template="0" * 64, shots=10),
        JobSubmission(TURN, task=AmplitudeTask(), parameters={"a": 0.0}),
    ]
    entries = await client.submit_batch(jobs)
    codes = [entry.error.code if entry.error else "" for entry in entries]
    assert codes == ["", "circuit.unbound_parameter", "job.no_template", ""]
    assert entries[0].job is not None
    done = await client.wait(entries[0].job.id, timeout_s=20)
    assert done.result is not None
    assert done.result.counts == {"00": 10}


@pytest.mark.long
async def test_a_qpu_is_assessed_on_request_while_jobs_run_and_the_node_tells_what_it_found(client: NodeClient) -> None:
    bell = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q->c;'
    assessing = asyncio.create_task(client.assess("qpu"))
    views = [await client.submit(JobSubmission(program=bell, shots=100, fresh=True), wait_s=30) for _ in range(20)]
    assert all(view.state is JobState.DONE for view in views)
    assert not assessing.done(), "jobs do not wait for the end of an assessment"
    found = await assessing
    assert (found.qpu, found.simulated, found.log2_volume, found.notes) == ("qpu", True, 10, ())
    assert found.clops > 0
    assert found.decode_p99_us > 0
    told = next(driver for driver in await client.drivers() if driver.name == "qpu").properties
    assert told["assessed_log2_volume"] == 10
    assert told["degraded"] == ""
    assert 'qedge_qpu_assessed{qpu="qpu",figure="log2_volume"} 10' in await client.metrics()
    with pytest.raises(QedgeError) as caught:
        await client.assess("nobody")
    assert caught.value.code == "driver.not_found"
