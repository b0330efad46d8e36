"""What stands before the queue: quotas, answers at hand, templates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.engine.answers import Answers
from qedge.engine.config import EngineConfig
from qedge.engine.quotas import Quotas
from qedge.engine.templates import template_hash
from qedge.wire.jobs import JobEstimate, JobResult, JobState, JobSubmission, LatencyClass
from tests.unit.engine.test_service import FakeQpu
from tests.unit.orchestrator.peer_site import EngineNode, EngineSite

SECOND = 10**9
ESTIMATE = JobEstimate(1, 1, 1, 10, 100, 0.1, 10, "fake")


def result(**metadata: str | bool) -> JobResult:
    return JobResult({"0": 10}, 10, 7, (), {"run": 0.1}, {"simulated": True, **metadata})


def test_a_client_may_have_so_many_open_jobs_and_others_are_not_touched() -> None:
    quotas = Quotas(EngineConfig(client_queue_limit=2))
    for _ in range(2):
        quotas.check("a", 1.0, 0)
        quotas.took("a", 1.0, 0)
    with pytest.raises(QedgeError) as caught:
        quotas.check("a", 1.0, 0)
    assert caught.value.code == "job.quota_exceeded"
    quotas.check("b", 1.0, 0)
    quotas.ended("a")
    quotas.check("a", 1.0, 0)


def test_few_of_a_clients_open_jobs_may_be_critical() -> None:
    quotas, critical = Quotas(EngineConfig(client_queue_limit=5, client_critical_limit=1)), LatencyClass.CRITICAL
    quotas.check("a", 1.0, 0, critical)
    quotas.took("a", 1.0, 0, critical)
    with pytest.raises(QedgeError) as caught:
        quotas.check("a", 1.0, 0, critical)
    assert (caught.value.code, caught.value.details["limit"]) == ("job.quota_exceeded", 1)
    quotas.check("a", 1.0, 0)
    quotas.check("b", 1.0, 0, critical)
    quotas.ended("a", critical)
    quotas.check("a", 1.0, 0, critical)


def test_run_time_fills_up_again_within_a_minute() -> None:
    quotas = Quotas(EngineConfig(client_run_s_per_minute=6.0))
    quotas.check("a", 100.0, 0)
    quotas.took("a", 5.0, 0)
    quotas.check("a", 1.0, 0)
    with pytest.raises(QedgeError, match="Try again in 10 s"):
        quotas.check("a", 2.0, 0)
    quotas.check("a", 2.0, 10 * SECOND)
    quotas.check("a", 100.0, 50 * SECOND)


def test_answers_are_given_to_identical_seeded_jobs_alone() -> None:
    answers = Answers(2)
    job = JobSubmission("p", seed=7, shots=10, client_key="x", tags=("t",))
    answers.learn(job, ESTIMATE, result())
    found = answers.find(JobSubmission("p", seed=7, shots=10, priority=9))
    assert found is not None
    assert found[1].metadata["cached"] is True
    assert found[1].counts == {"0": 10}
    different: list[dict[str, object]] = [
        {"seed": 8},
        {"seed": None},
        {"shots": 11},
        {"parameters": {"a": 1.0}},
        {"method": "mps"},
        {"qpu": "other"},
        {"fresh": True},
        {"program": "q"},
    ]
    for change in different:
        assert answers.find(msgspec.structs.replace(job, **change)) is None
    answers.clear()
    assert answers.find(job) is None


def test_answers_of_real_devices_and_of_jobs_without_a_seed_are_not_kept() -> None:
    answers = Answers(2)
    answers.learn(JobSubmission("p"), ESTIMATE, result())
    answers.learn(JobSubmission("p", seed=1), ESTIMATE, result(simulated=False))
    assert answers.find(JobSubmission("p", seed=1)) is None
    for seed in range(3):
        answers.learn(JobSubmission("p", seed=seed), ESTIMATE, result())
    assert answers.find(JobSubmission("p", seed=0)) is None
    assert answers.find(JobSubmission("p", seed=2)) is not None


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[EngineNode]:
    site = EngineSite(tmp_path)
    try:
        yield await site.node("a", FakeQpu(), keep_templates=2)
    finally:
        await site.close()


async def test_the_same_job_again_is_answered_without_a_run_until_a_qpu_changes(node: EngineNode) -> None:
    assert node.qpu is not None
    first = await node.end((await node.submit(seed=3)).id)
    again = await node.end((await node.submit(seed=3)).id)
    assert first.result is not None
    assert again.result is not None
    assert (again.state, again.result.counts) == (JobState.DONE, first.result.counts)
    assert again.result.metadata["cached"] is True
    assert len(node.qpu.runs) == 1
    assert len(node.rows()) == 2
    await node.end((await node.submit(seed=3, fresh=True)).id)
    assert len(node.qpu.runs) == 2
    node.engine.wake()
    assert "cached" not in (await node.end((await node.submit(seed=3)).id)).result.metadata  # type: ignore[union-attr]
    assert node.engine.totals()[JobState.DONE] == 4


async def test_templates_are_run_by_their_hash_and_give_way_to_others(node: EngineNode) -> None:
    assert node.qpu is not None
    names = [(await node.engine.reception.keep(text, "me")).template for text in ("p1", "p2")]
    assert names == [template_hash("p1"), template_hash("p2")]
    await node.end((await node.submit("", template=names[0])).id)
    assert node.qpu.runs == ["p1"]
    await asyncio.sleep(0.01)
    await node.engine.reception.keep("p1", "me")
    await node.engine.reception.keep("p3", "me")
    with pytest.raises(QedgeError) as caught:
        await node.submit("", template=names[1])
    assert caught.value.code == "job.no_template"
    with pytest.raises(QedgeError) as caught:
        await node.submit("p", template=names[0])
    assert caught.value.code == "job.bad_request"


async def test_open_jobs_of_a_client_are_counted_across_a_restart(tmp_path: Path) -> None:
    site = EngineSite(tmp_path)
    try:
        node = await site.node("a", FakeQpu(), client_queue_limit=2)
        assert node.qpu is not None
        node.qpu.held = True
        for _ in range(2):
            await node.submit()
        await node.kill()
        await node.start()
        with pytest.raises(QedgeError) as caught:
            await node.submit()
        assert caught.value.code == "job.quota_exceeded"
        node.qpu.release.set()
        node.qpu.held = False
    finally:
        await site.close()
