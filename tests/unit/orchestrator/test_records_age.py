"""Records that a node holds for others: they age by its own running time, and those that never end are bounded."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from qedge.engine.fake import FakeQpu
from tests.unit.orchestrator.peer_site import EngineNode, EngineSite
from tests.unit.orchestrator.test_ledger import hold, release, until

HOUR_NS = 3600 * 10**9
YEAR_NS = 365 * 24 * HOUR_NS


async def pair(site: EngineSite, **settings: float) -> tuple[EngineNode, EngineNode]:
    """Make a node whose jobs never end, and one that holds their records."""
    a, b = [await site.node(name, FakeQpu(name), keep_s=3600.0, **settings) for name in "ab"]
    hold(a, b)
    return a, b


async def held(site: EngineSite, a: EngineNode, b: EngineNode) -> str:
    """Accept a job at a of which b holds a record."""
    job = await a.submit(node="any")
    await until(lambda: b.copies() == 1)
    return job.id


async def pass_time(node: EngineNode, elapsed_ns: int) -> None:
    """Let a node run on for a while, as long as it takes to forget something twice."""
    for _ in range(2):
        node.clock.ahead_ns += elapsed_ns
        await node.ledger.keeping._prune()


def forget_at(node: EngineNode, job_id: str) -> None:
    """Let nobody vouch for a record any more."""
    node.ledger.keeping._vouched.discard(job_id)


@pytest.mark.parametrize("step_ns", [YEAR_NS, -YEAR_NS])
async def test_a_step_of_the_wall_clock_erases_no_record_and_keeps_none_for_ever(
    site: EngineSite, step_ns: int
) -> None:
    a, b = await pair(site)
    b.clock.step_ns = -step_ns
    job_id = await held(site, a, b)
    b.clock.step_ns = step_ns
    await pass_time(b, HOUR_NS // 4)
    assert b.copies() == 1
    site.network.cut.add(frozenset("ab"))
    site.network.silent_cuts = True
    forget_at(b, job_id)
    await pass_time(b, 2 * HOUR_NS)
    assert b.copies() == 0


async def test_the_age_of_records_goes_on_over_a_restart_and_time_off_is_none(site: EngineSite) -> None:
    a, b = await pair(site)
    await held(site, a, b)
    site.network.cut.add(frozenset("ab"))
    site.network.silent_cuts = True
    await pass_time(b, HOUR_NS * 2 // 5)
    await b.kill()
    b.clock.ahead_ns, b.clock.step_ns = -5 * HOUR_NS, 30 * 24 * HOUR_NS  # the box was off for a month
    await b.start()
    await b.ledger.keeping._prune()
    assert b.copies() == 1
    await pass_time(b, HOUR_NS * 3 // 5)
    assert b.copies() == 0


async def test_a_record_for_which_its_owner_vouches_stays_and_one_that_nobody_speaks_of_goes_with_a_word(
    site: EngineSite,
) -> None:
    a, b = await pair(site)
    job_id = await held(site, a, b)
    keeping = b.ledger.keeping
    for _ in range(3):
        await until(lambda: job_id in keeping._vouched)
        await pass_time(b, HOUR_NS * 3 // 4)
    assert b.copies() == 1
    site.network.cut.add(frozenset("ab"))
    site.network.silent_cuts = True
    await asyncio.sleep(0.1)
    forget_at(b, job_id)
    with capture_logs() as logs:
        await pass_time(b, 2 * HOUR_NS)
    assert b.copies() == 0
    assert keeping._custody.find(job_id) is None
    assert [entry["records"] for entry in logs if entry["event"] == "job.records_aged"] == [1]
    assert b.metrics.value("qedge_job_records_total", ("aged",)) == 1


async def test_a_node_whose_jobs_never_end_is_told_when_no_more_of_their_records_are_held(site: EngineSite) -> None:
    a, b = await pair(site, records_of_one=3.0)
    with capture_logs() as logs:
        jobs = [await a.submit(node="any", seed=seed) for seed in range(5)]
        await until(lambda: a.metrics.value("qedge_job_copies_total", ("refused",)) >= 2)
    assert b.copies() == 3
    assert [job.replicated for job in jobs] == [True, True, True, False, False]
    assert b.metrics.value("qedge_job_records_total", ("refused",)) >= 2
    assert [entry["peer"] for entry in logs if entry["event"] == "job.records_full"] == ["a"]
    assert [entry["peer"] for entry in logs if entry["event"] == "job.copies_refused"] == ["b"]


async def test_a_node_that_holds_as_many_records_as_it_may_hears_of_their_ends_and_has_room_again(
    site: EngineSite,
) -> None:
    a, b = await pair(site, records_of_one=2.0)
    jobs = [await a.submit(node="any", seed=seed) for seed in range(3)]
    assert [job.replicated for job in jobs] == [True, True, False]
    release(a, b)
    for job in jobs:
        await a.end(job.id)
    await asyncio.sleep(0.2)
    hold(a, b)
    assert (await a.submit(node="any", seed=9)).replicated is True


async def test_a_record_that_can_be_read_no_more_keeps_no_node_from_starting(site: EngineSite) -> None:
    a, b = await pair(site)
    await held(site, a, b)
    await b.store.write(lambda connection: connection.execute("UPDATE job_copies SET record = x'c1'"))
    await b.kill()
    await b.start()
    assert not any(task.done() for task in b._tasks)
