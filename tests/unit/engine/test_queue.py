"""The queue: urgent first with a bound, weights, ageing, fair shares, and nobody starves."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.engine.config import EngineConfig
from qedge.engine.model import Job
from qedge.engine.queue import CLASSES, JobQueue
from qedge.wire.jobs import JobEstimate, JobSubmission, LatencyClass

CRITICAL, INTERACTIVE, BATCH = CLASSES
SECOND = 10**9
ESTIMATE = JobEstimate(1, 1, 1, 1, 1, 0.1, 1, "fake")


def job(
    client: str = "a",
    latency: LatencyClass = INTERACTIVE,
    *,
    priority: int = 4,
    cost_s: float = 0.1,
    queued_ns: int = 0,
    name: str = "",
) -> Job:
    """Make a waiting job."""
    submission = JobSubmission(program="p", priority=priority, latency_class=latency)
    return Job(name or client, submission, client, ESTIMATE, 0, 0, queued_ns, cost_s=cost_s)


def queue_of(*jobs: Job, **settings_: float) -> JobQueue:
    """Make a queue with jobs in it."""
    queue = JobQueue(EngineConfig(**settings_))  # type: ignore[arg-type]
    for each in jobs:
        queue.push(each)
    return queue


def drain(queue: JobQueue, number: int, now_ns: int = 0) -> list[Job]:
    """Take so many jobs."""
    taken = [queue.pop(lambda _job: True, now_ns) for _ in range(number)]
    return [each for each in taken if each is not None]


def shares(jobs: list[Job]) -> Counter[LatencyClass]:
    """Add up the time of each class."""
    found: Counter[LatencyClass] = Counter()
    for each in jobs:
        found[each.submission.latency_class] += round(each.cost_s * 1000)
    return found


def test_critical_jobs_go_first_then_interactive_ones_then_batch() -> None:
    queue = queue_of(job(latency=BATCH), job(latency=INTERACTIVE), job(latency=CRITICAL))
    assert [each.submission.latency_class for each in drain(queue, 3)] == [CRITICAL, INTERACTIVE, BATCH]
    assert len(queue) == 0
    assert queue.work_s() == (0.0, 0.0, 0.0)


def test_critical_jobs_get_no_more_than_their_share_for_long() -> None:
    queue = queue_of(*(job(latency=latency) for latency in CLASSES for _ in range(1000)))
    found = shares(drain(queue, 1000))
    assert 0.78 < found[CRITICAL] / found.total() < 0.84
    assert found[INTERACTIVE] > 6 * found[BATCH] > 0


def test_where_no_critical_job_waits_interactive_and_batch_share_by_weight() -> None:
    queue = queue_of(*(job(latency=latency) for latency in (INTERACTIVE, BATCH) for _ in range(900)))
    found = shares(drain(queue, 900))
    assert found[INTERACTIVE] / found[BATCH] == 8


def test_a_class_that_had_nothing_to_do_has_saved_nothing_up() -> None:
    queue = queue_of(*(job(latency=BATCH) for _ in range(500)))
    drain(queue, 400)
    for _ in range(400):
        queue.push(job(latency=INTERACTIVE))
    found = shares(drain(queue, 90))
    assert 7 <= found[INTERACTIVE] / found[BATCH] <= 9


def test_a_client_with_thousands_of_jobs_waits_for_one_that_has_few() -> None:
    queue = queue_of(*(job("many") for _ in range(1000)))
    drain(queue, 100)
    queue.push(job("few"))
    assert "few" in [each.client for each in drain(queue, 2)]


def test_clients_share_time_and_not_numbers() -> None:
    queue = queue_of(*(job("long", cost_s=1.0) for _ in range(100)), *(job("short", cost_s=0.1) for _ in range(1000)))
    taken = Counter(each.client for each in drain(queue, 550))
    assert 8 < taken["short"] / taken["long"] < 12


def test_a_higher_priority_goes_first_and_a_lower_one_rises_while_it_waits() -> None:
    low = job("low", priority=0, queued_ns=0)
    queue = queue_of(low, job("high", priority=5, queued_ns=0), ageing_s=10.0)
    assert drain(queue, 1)[0].client == "high"
    queue.push(job("high", priority=5, queued_ns=40 * SECOND))
    assert drain(queue, 1, 49 * SECOND)[0].client == "high"
    queue.push(job("high", priority=5, queued_ns=60 * SECOND))
    assert drain(queue, 1, 60 * SECOND)[0] is low


def test_a_job_whose_worker_died_goes_before_its_clients_others() -> None:
    queue = queue_of(job(name="1"), job(name="2"))
    queue.push(job(name="again"), first=True)
    assert [each.id for each in drain(queue, 3)] == ["again", "1", "2"]


def test_a_job_that_does_not_suit_is_passed_over_and_keeps_its_place() -> None:
    queue = queue_of(job(name="large"), job(name="small"))
    found = queue.pop(lambda each: each.id == "small", 0)
    assert found is not None
    assert found.id == "small"
    assert [each.id for each in queue.jobs()] == ["large"]
    assert queue.pop(lambda _job: True, 0, classes=(CRITICAL,)) is None


def test_a_job_that_is_taken_out_waits_no_more() -> None:
    one, other = job(name="1"), job(name="2")
    queue = queue_of(one, other)
    assert queue.position(other) == 2
    assert queue.remove(one)
    assert not queue.remove(one)
    assert queue.position(other) == 1
    assert queue.waiting() == (0, 1, 0)


ARRIVALS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(CLASSES), st.integers(0, 9), st.sampled_from([0.01, 0.1, 1.0])),
    min_size=1,
    max_size=30,
)


@settings(max_examples=20, deadline=None)
@given(ARRIVALS, st.integers(0, 1000))
def test_nobody_starves_however_much_more_urgent_work_comes(
    arrivals: list[tuple[str, LatencyClass, int, float]], seed: int
) -> None:
    rng = random.Random(seed)
    queue = JobQueue(EngineConfig(ageing_s=1.0))
    waiting = [job(client, latency, priority=level, cost_s=cost) for client, latency, level, cost in arrivals]
    for each in waiting:
        queue.push(each)
    left, now_ns, served_s = {id(each) for each in waiting}, 0, 0.0
    # the bound: 1/45 of the time is for the least of the classes, and it is shared by all clients that there are
    while left and served_s < 45 * 6 * (sum(each.cost_s for each in waiting) + 12.0):
        for latency in CLASSES:
            queue.push(job(rng.choice("wxyz"), latency, priority=9, queued_ns=now_ns))
        taken = queue.pop(lambda _job: True, now_ns)
        assert taken is not None
        served_s += taken.cost_s
        now_ns += round(taken.cost_s * SECOND)
        left.discard(id(taken))
    assert not left


@settings(max_examples=60, deadline=None)
@given(ARRIVALS, st.data())
def test_the_queue_gives_back_each_job_once(
    arrivals: list[tuple[str, LatencyClass, int, float]], data: st.DataObject
) -> None:
    queue = JobQueue(EngineConfig())
    jobs = [job(client, latency, priority=level, cost_s=cost) for client, latency, level, cost in arrivals]
    for each in jobs:
        queue.push(each)
    assert {id(each) for each in queue.jobs()} == {id(each) for each in jobs}
    gone = data.draw(st.lists(st.sampled_from(range(len(jobs))), unique=True))
    for index in gone:
        assert queue.remove(jobs[index])
    taken = drain(queue, len(jobs) + 1)
    assert sorted(map(id, taken)) == sorted(id(each) for index, each in enumerate(jobs) if index not in gone)
    assert len(queue) == 0
