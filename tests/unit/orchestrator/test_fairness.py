"""Health and what follows from it: a node that is not well says so and takes less, batch jobs least of all."""

from __future__ import annotations

import pytest

from qedge.base.errors import QedgeError
from qedge.engine.lanes import Occupancy
from qedge.engine.queue import CLASSES
from qedge.orchestrator.fairness.health import RECENT_NS, Fitness, HealthJudge
from qedge.orchestrator.fairness.shedding import check_shedding
from qedge.wire.jobs import LatencyClass
from qedge.wire.node import DriverView, HostView, WorkerView

SECOND = 10**9
WELL = HostView(verdict="ok")
BUSY = Occupancy(1, 0, (0, 0, 1), (0.0, 0.0, 1.0))
IDLE = Occupancy(1, 1, (0, 0, 0), (0.0, 0.0, 0.0))


def qpu(restarts: int = 0, *, name: str = "qpu", **properties: str) -> DriverView:
    """Describe a QPU whose worker was restarted so often."""
    workers = (WorkerView(f"{name}-0", "ready", restarts=restarts),)
    return DriverView(name, "d", "qpu", "1", True, "unlocked", "up", workers=workers, properties={**properties})


def judged(host: HostView = WELL, *drivers: DriverView, disk_full: bool = False) -> Fitness:
    """Judge a node of which nothing was known before."""
    return HealthJudge().judge(host, drivers, disk_full=disk_full, now_ns=0)


def test_a_healthy_node_wants_all_its_work() -> None:
    assert judged(WELL, qpu()) == Fitness(1.0, "ok", "")


@pytest.mark.parametrize("what", ["temperature", "memory", "disk", "cpu"])
def test_what_is_degraded_is_named_and_costs_work_and_two_things_cost_more(what: str) -> None:
    found = judged(HostView(verdict="degraded", unwell=(f"{what} degraded",)))
    assert (found.verdict, found.reason) == ("degraded", f"{what} degraded")
    assert 0 < found.factor < 1
    more = judged(HostView(verdict="degraded", unwell=(f"{what} degraded",)), qpu(degraded="slow"))
    assert more.factor < found.factor
    assert "qpu: slow" in more.reason


def test_a_critical_host_and_a_full_disk_want_nothing() -> None:
    hot = judged(HostView(verdict="critical", unwell=("memory degraded", "temperature critical")))
    assert hot == Fitness(0.0, "critical", "temperature")
    assert judged(disk_full=True).factor == 0.0


def test_crashes_of_workers_and_steps_of_the_clock_count_for_a_minute() -> None:
    judge = HealthJudge()
    assert judge.judge(WELL, [qpu(50)], disk_full=False, now_ns=0).verdict == "ok"
    crashed = judge.judge(WELL, [qpu(53)], disk_full=False, now_ns=SECOND)
    assert "3 crashes" in crashed.reason
    worse = judge.judge(WELL, [qpu(56)], disk_full=False, now_ns=2 * SECOND)
    assert worse.factor < crashed.factor < 1
    stepped = judge.judge(HostView(verdict="ok", clock_steps=1), [qpu(56)], disk_full=False, now_ns=3 * SECOND)
    assert "clock" in stepped.reason
    later = judge.judge(
        HostView(verdict="ok", clock_steps=1), [qpu(56)], disk_full=False, now_ns=4 * SECOND + RECENT_NS
    )
    assert later == Fitness()


def test_crashes_of_one_qpu_cost_little_where_another_runs_on() -> None:
    judge = HealthJudge()
    judge.judge(WELL, [qpu(0), qpu(0, name="bad")], disk_full=False, now_ns=0)
    found = judge.judge(WELL, [qpu(0), qpu(60, name="bad")], disk_full=False, now_ns=SECOND)
    assert found.verdict == "degraded"
    assert "bad" in found.reason
    assert not shed(LatencyClass.INTERACTIVE, found)
    assert not shed(LatencyClass.BATCH, found)
    both = judge.judge(WELL, [qpu(6), qpu(60, name="bad")], disk_full=False, now_ns=2 * SECOND)
    assert shed(LatencyClass.INTERACTIVE, both)


def shed(latency: LatencyClass, fitness: Fitness, occupancy: Occupancy = BUSY) -> bool:
    """Say whether a job of a class is turned away."""
    try:
        check_shedding(latency, fitness, occupancy)
    except QedgeError as error:
        assert error.code == "job.shed"
        assert error.details["retry_after_s"]
        return True
    return False


def test_batch_jobs_are_turned_away_first_and_critical_ones_never() -> None:
    factors = [1.0, 0.5, 0.2]
    assert [shed(LatencyClass.BATCH, Fitness(each, "degraded")) for each in factors] == [False, True, True]
    assert [shed(LatencyClass.INTERACTIVE, Fitness(each, "degraded")) for each in factors] == [False, False, True]
    assert [shed(each, Fitness(0.0, "critical", "disk")) for each in CLASSES] == [False, True, True]


def test_a_degraded_node_works_on_as_long_as_nothing_piles_up() -> None:
    assert not shed(LatencyClass.BATCH, Fitness(0.5, "degraded"), IDLE)
    assert shed(LatencyClass.BATCH, Fitness(0.0, "critical"), IDLE)
