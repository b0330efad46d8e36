"""Slots: what runs next and where, how long others have to wait for it, and what experience makes of estimates."""

from __future__ import annotations

import pytest

from qedge.engine.config import EngineConfig
from qedge.engine.fake import FakeQpu
from qedge.engine.lanes import Lanes
from qedge.engine.model import Job
from qedge.engine.pace import Pace
from qedge.engine.roster import QpuRoster
from qedge.wire.jobs import JobEstimate, JobSubmission, LatencyClass

CRITICAL, INTERACTIVE, BATCH = LatencyClass
SECOND = 10**9


class Memory:
    """A host with a megabyte to spare."""

    def available_bytes(self) -> int:
        """Return it."""
        return 10**6


def lanes(*qpus: FakeQpu, **settings: float) -> Lanes:
    """Make lanes over QPUs."""
    config = EngineConfig(**settings)  # type: ignore[arg-type]
    return Lanes(config, QpuRoster(config, lambda: qpus, Memory()), Memory())


def job(
    name: str, latency: LatencyClass = INTERACTIVE, time_s: float = 1.0, memory_bytes: int = 1, qpu: str = ""
) -> Job:
    """Make a job that is estimated so."""
    submission = JobSubmission(program="p", latency_class=latency, qpu=qpu)
    return Job(name, submission, "me", JobEstimate(1, 1, 1, 1, memory_bytes, time_s, 1, "fake"), 0, 0, 0)


def started(found: Lanes, now_ns: int = 0) -> list[str]:
    """Start what can start."""
    names = []
    while (run := found.start_next(now_ns)) is not None:
        names.append(run.job.id + ("!" if run.express else ""))
    return names


def test_a_short_urgent_job_runs_on_the_spare_worker_and_a_long_or_patient_one_waits() -> None:
    found = lanes(FakeQpu(spares=1), express_s=0.5)
    for each in (job("batch", BATCH), job("batch2", BATCH, 0.1), job("long", time_s=2.0), job("short", time_s=0.1)):
        found.push(each)
    assert started(found) == ["long", "short!"]
    found.ended(found.runs["long"].job)
    assert started(found) == ["batch"]


def test_without_a_spare_or_with_the_express_lane_closed_a_job_waits() -> None:
    for found in (lanes(FakeQpu()), lanes(FakeQpu(spares=1), express_s=0.0)):
        found.push(job("batch", BATCH))
        assert started(found) == ["batch"]
        found.push(job("short", time_s=0.1))
        assert started(found) == []
        assert not found.may_run_at_once(INTERACTIVE, "")


def test_of_several_slots_batch_jobs_leave_one() -> None:
    found = lanes(FakeQpu(capacity=2))
    for name in ("1", "2", "3"):
        found.push(job(name, BATCH))
    assert started(found) == ["1"]
    assert not found.may_run_at_once(BATCH, "")
    assert found.may_run_at_once(INTERACTIVE, "")
    found.push(job("urgent"))
    assert started(found) == ["urgent"]


def test_jobs_that_do_not_fit_into_memory_together_do_not_run_together() -> None:
    found = lanes(FakeQpu(capacity=2), memory_share=0.5)
    found.push(job("1", memory_bytes=400_000))
    found.push(job("2", memory_bytes=400_000))
    assert started(found) == ["1"]


def test_a_job_for_a_busy_qpu_does_not_keep_others_from_a_free_one() -> None:
    found = lanes(FakeQpu("x"), FakeQpu("y"))
    for name, qpu in (("1", "x"), ("2", "x"), ("3", "y")):
        found.push(job(name, qpu=qpu))
    assert started(found) == ["1", "3"]


def test_the_backlog_of_a_class_is_what_goes_before_it() -> None:
    found = lanes(FakeQpu())
    assert found.occupancy(0).backlog_s == (0.0, 0.0, 0.0)
    for each in (job("running", BATCH, 4.0), job("batch", BATCH, 8.0), job("soon", INTERACTIVE, 1.0)):
        found.push(each)
        started(found)
    now = found.occupancy(SECOND)
    assert (now.slots, now.free_slots, now.queued) == (1, 0, (0, 1, 1))
    assert now.backlog_s == pytest.approx((3.0, 3.0 + 1.0 + 1.0 / 8, 3.0 + 9.0))
    assert found.predicted_s(CRITICAL, job("x", time_s=2.0).estimate, SECOND) == pytest.approx(5.0)


def test_estimates_are_corrected_by_what_runs_of_their_method_took() -> None:
    pace = Pace()
    high = JobEstimate(1, 1, 1, 1, 1, 3.0, 1, "branching")
    assert pace.expected_s(high) == pytest.approx(3.0)
    pace.learn(high, 0.3)
    assert pace.expected_s(high) == pytest.approx(0.3)
    assert pace.expected_s(JobEstimate(1, 1, 1, 1, 1, 3.0, 1, "mps")) == pytest.approx(3.0)
    for _ in range(200):
        pace.learn(high, 6.0)
    assert pace.expected_s(high) == pytest.approx(6.0, rel=0.05)


def test_no_single_run_makes_an_estimate_absurd() -> None:
    pace = Pace()
    tiny = JobEstimate(1, 1, 1, 1, 1, 0.0, 1, "fake")
    pace.learn(tiny, 1000.0)
    assert pace.expected_s(tiny) <= 0.011
    assert pace.typical_s <= 0.01
