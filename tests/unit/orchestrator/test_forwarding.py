"""Jobs across nodes: accepted once, run where they were sent, ended once, whatever dies in between."""

from __future__ import annotations

import asyncio
import random

import pytest

from qedge.base.errors import QedgeError
from qedge.engine.fake import FakeQpu
from qedge.orchestrator.ledger.model import LeaseState
from qedge.wire.jobs import JobAsk, JobHeard, JobNews, JobState, JobStop, JobTidings
from tests.unit.orchestrator.peer_site import EngineNode, EngineSite


async def three(site: EngineSite, **settings: float) -> tuple[EngineNode, EngineNode, EngineNode]:
    """Make an origin without a QPU and two runners."""
    origin = await site.node("a", **settings)
    return origin, await site.node("b", FakeQpu("b"), **settings), await site.node("c", FakeQpu("c"), **settings)


async def test_a_job_for_a_named_node_runs_there_and_comes_back(site: EngineSite) -> None:
    a, b, c = await three(site)
    job = await a.submit(node="b", seed=5)
    view = await a.end(job.id)
    assert (view.state, view.node) == (JobState.DONE, "b")
    assert view.result is not None
    assert view.result.seed == 5
    assert (len(b.qpu.runs), len(c.qpu.runs)) == (1, 0)  # type: ignore[union-attr]
    await b.written(1)
    assert [(client, state) for client, _, state in b.rows()] == [("node:a", "done")]
    assert b.rows()[0][1] == job.id
    assert (await a.engine.jobs(5))[0].node == "b"


async def test_any_goes_round_among_the_nodes_that_can_and_stays_here_where_a_qpu_is_free(site: EngineSite) -> None:
    a, b, c = await three(site)
    for _ in range(4):
        assert (await a.end((await a.submit(node="any")).id)).state is JobState.DONE
    assert (len(b.qpu.runs), len(c.qpu.runs)) == (2, 2)  # type: ignore[union-attr]
    job = await b.submit(node="any")
    assert (await b.end(job.id)).node == "b"
    own = await b.submit(node="b")
    assert (await b.end(own.id)).node == ""


async def test_the_same_key_is_one_job_here_and_there_and_another_request_under_it_a_conflict(site: EngineSite) -> None:
    a, b, _ = await three(site)
    first, second = await a.submit(node="b", client_key="k"), await a.submit(node="b", client_key="k")
    assert first.id == second.id
    await a.end(first.id)
    assert (await a.submit(node="b", client_key="k")).id == first.id
    with pytest.raises(QedgeError) as error:
        await a.submit("another", node="b", client_key="k")
    assert error.value.code == "job.conflict"
    await b.written(1)


async def test_a_name_that_nobody_has_is_refused_with_the_names_that_are_known(site: EngineSite) -> None:
    a, _, _ = await three(site)
    with pytest.raises(QedgeError) as error:
        await a.submit(node="nobody")
    assert error.value.code == "job.no_node"
    assert "b, c" in error.value.fix


@pytest.mark.parametrize("purpose", ["job-offer/1", "job-news/1"])
@pytest.mark.parametrize("fault", ["lost", "twice"])
async def test_lost_and_repeated_words_between_nodes_are_one_run_and_one_result(
    site: EngineSite, purpose: str, fault: str
) -> None:
    a, b, _ = await three(site)
    left = [2]

    def once(_caller: str, _callee: str, what: str) -> bool:
        left[0] -= what == purpose
        return what == purpose and left[0] >= 0

    if fault == "lost":
        site.network.lose_answer = once
    else:
        site.network.deliver_twice = once
    view = await a.end((await a.submit(node="b")).id)
    assert view.state is JobState.DONE
    assert len(b.qpu.runs) == 1  # type: ignore[union-attr]
    await b.written(1)


async def test_a_real_refusal_of_the_runner_ends_the_job_with_its_reason(site: EngineSite) -> None:
    a, _, _ = await three(site)
    view = await a.end((await a.submit(node="b", qpu="no such QPU")).id)
    assert view.state is JobState.FAILED
    assert view.error is not None
    with pytest.raises(QedgeError) as error:
        await a.submit(node="b", shots=0)
    assert error.value.code == "job.bad_shots"


async def test_a_runner_that_is_full_makes_any_go_elsewhere(site: EngineSite) -> None:
    a = await site.node("a")
    b = await site.node("b", FakeQpu("b"), queue_limit=1)
    assert b.qpu is not None
    b.qpu.held = True
    await b.submit()
    await asyncio.sleep(0.05)
    await b.submit()
    c = await site.node("c", FakeQpu("c"))
    views = [await a.end((await a.submit(node="any")).id) for _ in range(3)]
    assert {view.node for view in views} == {"c"}
    await c.written(3)
    b.qpu.release.set()


async def test_a_runner_that_is_killed_and_comes_back_does_the_job_once_for_its_origin(site: EngineSite) -> None:
    a, b, _ = await three(site)
    assert b.qpu is not None
    b.qpu.held = True
    job = await a.submit(node="b")
    while not b.qpu.runs:
        await asyncio.sleep(0.01)
    await b.kill()
    b.qpu.held = False
    await asyncio.sleep(0.2)
    await b.start()
    assert (await a.end(job.id)).state is JobState.DONE
    await b.written(1)


async def test_a_named_runner_that_never_returns_fails_the_job_with_a_reason(site: EngineSite) -> None:
    a, b, _ = await three(site, runner_lost_s=1.0)
    assert b.qpu is not None
    b.qpu.held = True
    job = await a.submit(node="b")
    while not b.qpu.runs:
        await asyncio.sleep(0.01)
    await b.kill()
    view = await a.end(job.id)
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert view.error.code == "job.runner_lost"


async def test_any_moves_on_from_a_dead_runner_whose_late_result_has_no_effect(site: EngineSite) -> None:
    a, b, c = await three(site, lease_s=0.4)
    assert b.qpu is not None
    assert c.qpu is not None
    b.qpu.held = c.qpu.held = True
    job = await a.submit(node="any", seed=1)
    while not b.qpu.runs and not c.qpu.runs:
        await asyncio.sleep(0.01)
    first, second = (b, c) if b.qpu.runs else (c, b)
    assert first.qpu is not None
    assert second.qpu is not None
    site.network.cut.add(frozenset(("a", first.name)))
    second.qpu.held = False
    view = await a.end(job.id)
    assert (view.state, view.node, view.attempts) == (JobState.DONE, second.name, 2)
    site.network.cut.clear()
    site.network.tell_all()
    async with asyncio.timeout(30):
        while [row[2] for row in first.rows()] != ["cancelled"]:
            await asyncio.sleep(0.1)  # the origin tells it that nobody waits any more
    assert (await a.engine.job(job.id)).node == second.name


async def test_a_job_that_may_run_only_once_stays_with_a_runner_that_may_have_got_it(site: EngineSite) -> None:
    a, b, c = await three(site, lease_s=0.4, runner_lost_s=30.0)
    assert b.qpu is not None
    assert c.qpu is not None
    b.qpu.held = c.qpu.held = True
    site.network.lose_answer = lambda _caller, _callee, what: what == "job-offer/1"
    job = await a.submit(node="any", once=True)
    while not b.qpu.runs and not c.qpu.runs:
        await asyncio.sleep(0.01)
    runner, other = (b, c) if b.qpu.runs else (c, b)
    assert other.qpu is not None
    site.network.cut.add(frozenset(("a", runner.name)))
    await asyncio.sleep(2.5)
    assert not other.qpu.runs
    site.network.lose_answer = lambda *_: False
    site.network.cut.clear()
    site.network.tell_all()
    b.qpu.release.set()
    c.qpu.release.set()
    assert (await a.end(job.id)).state is JobState.DONE
    assert len(b.qpu.runs) + len(c.qpu.runs) == 1


async def test_a_partition_shorter_than_the_lease_means_exactly_one_run(site: EngineSite) -> None:
    a, _, _ = await three(site, lease_s=5.0)
    jobs = []
    for index in range(6):
        jobs.append(await a.submit(str(index), node="any"))
        if index == 2:
            async with asyncio.timeout(30):  # an offer whose answer is lost is made to another node as well
                while any(grant is None or grant.state is not LeaseState.HELD for grant in a.grants()):
                    await asyncio.sleep(0.01)
            site.network.cut |= {frozenset(("a", "b")), frozenset(("a", "c"))}
    await asyncio.sleep(1)
    site.network.cut.clear()
    site.network.tell_all()
    for job in jobs:
        assert (await a.end(job.id)).state is JobState.DONE
    assert site.runs() == 6


@pytest.mark.parametrize("phase", ["accepted", "taken", "ended there"])
async def test_an_origin_that_is_killed_takes_its_jobs_up_again(site: EngineSite, phase: str) -> None:
    a, b, _ = await three(site)
    assert b.qpu is not None
    b.qpu.held = phase != "ended there"
    if phase == "accepted":
        site.network.cut.add(frozenset(("a", "b")))
    if phase == "ended there":
        site.network.lose_answer = lambda _caller, _callee, what: what == "job-offer/1"
        b.peers.served["job-ask/1"] = (JobAsk, _no_news)
    job = await a.submit(node="b")
    if phase != "accepted":
        while not b.qpu.runs:
            await asyncio.sleep(0.01)
    await a.kill()
    if phase == "ended there":
        await asyncio.sleep(0.2)
    site.network.cut.clear()
    site.network.lose_answer = lambda *_: False
    b.qpu.held = False
    b.qpu.release.set()
    await a.start()
    assert (await a.end(job.id)).state is JobState.DONE
    assert len(b.qpu.runs) == 1
    await b.written(1)


async def _no_news(_peer: str, _ask: object) -> JobTidings:
    return JobTidings(())


async def test_a_cancel_reaches_the_runner_and_a_waiting_job_ends_at_once(site: EngineSite) -> None:
    a, b, _ = await three(site)
    assert b.qpu is not None
    b.qpu.held = True
    job = await a.submit(node="b")
    while not b.qpu.runs:
        await asyncio.sleep(0.01)
    assert (await a.engine.cancel(job.id)).state is JobState.CANCELLED
    async with asyncio.timeout(30):
        while [row[2] for row in b.rows()] != ["cancelled"]:
            await asyncio.sleep(0.05)
    site.network.cut.add(frozenset(("a", "c")))
    waiting = await a.submit(node="c")
    assert (await a.engine.cancel(waiting.id)).state is JobState.CANCELLED


async def test_a_deadline_that_passes_ends_the_job_here_and_there(site: EngineSite) -> None:
    a, b, _ = await three(site)
    assert b.qpu is not None
    b.qpu.held = True
    job = await a.submit(node="b", deadline_s=0.5)
    view = await a.end(job.id)
    assert view.state is JobState.EXPIRED
    async with asyncio.timeout(30):
        while [row[2] for row in b.rows()] not in (["expired"], ["cancelled"]):
            await asyncio.sleep(0.05)


async def test_a_peer_sees_stops_and_reports_only_what_is_its_own(site: EngineSite) -> None:
    a, b, c = await three(site)
    assert b.qpu is not None
    b.qpu.held = True
    job = await a.submit(node="b")
    while not b.rows() or b.rows()[0][2] != "running":
        await asyncio.sleep(0.01)
    tidings = await c.peers.call("b", JobAsk((job.id,)), JobTidings, deadline_s=1)
    assert tidings.news[0].job is None
    await c.peers.call("b", JobStop(job.id), JobHeard, deadline_s=1)
    assert b.rows()[0][2] == "running"
    done = await c.end((await c.submit()).id)
    with pytest.raises(QedgeError) as error:
        await c.peers.call("a", JobNews(job.id, done), JobHeard, deadline_s=1)
    assert error.value.code == "job.not_found"
    assert (await a.engine.job(job.id)).state in (JobState.QUEUED, JobState.RUNNING)
    b.qpu.release.set()
    assert (await a.end(job.id)).state is JobState.DONE


async def test_status_counts_what_is_away(site: EngineSite) -> None:
    a, b, _ = await three(site)
    assert b.qpu is not None
    b.qpu.held = True
    job = await a.submit(node="b")
    while not b.qpu.runs:
        await asyncio.sleep(0.01)
    assert sum(a.engine.totals()[state] for state in (JobState.QUEUED, JobState.RUNNING)) == 1
    b.qpu.release.set()
    await a.end(job.id)
    assert a.engine.totals()[JobState.DONE] == 1


@pytest.mark.parametrize("seed", [1, 2, *[pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 23)]])
async def test_random_histories_end_every_job_once(site: EngineSite, seed: int) -> None:
    chance = random.Random(seed)
    a, b, c = await three(site, lease_s=1.0, runner_lost_s=60.0)
    site.network.lose_answer = lambda *_: chance.random() < 0.1
    site.network.deliver_twice = lambda *_: chance.random() < 0.1
    jobs = []
    for index in range(40):
        jobs.append(await a.submit(str(index), node=chance.choice(["any", "b", "c"])))
        blow = chance.random()
        if blow < 0.1:
            victim = chance.choice([b, c])
            await victim.kill()
            await victim.start()
        elif blow < 0.2:
            site.network.cut.add(frozenset(("a", chance.choice("bc"))))
        elif blow < 0.3:
            site.network.cut.clear()
        elif blow < 0.35:
            await a.kill()
            await a.start()
        await asyncio.sleep(chance.random() * 0.05)
    site.network.cut.clear()
    site.network.lose_answer = site.network.deliver_twice = lambda *_: False
    site.network.tell_all()
    for job in jobs:
        assert (await a.end(job.id, 60)).state is JobState.DONE
    # one that lost its lease may have run twice, but no runner has it twice, and there is one end
    for node in (b, c):
        keys = [key for client, key, state in node.rows() if state == "done" and client == "node:a" and key]
        assert len(keys) == len(set(keys))
        assert set(keys) <= {job.id for job in jobs}
    assert all(state == "done" for _, _, state in a.rows())


async def test_a_lent_job_is_written_with_its_end_or_where_it_lasts(site: EngineSite) -> None:
    a, b, _ = await three(site)
    assert b.qpu is not None
    b.qpu.held = True
    first = await a.submit(node="b")
    while not b.qpu.runs:
        await asyncio.sleep(0.001)
    async with asyncio.timeout(30):
        while [row[2] for row in b.rows()] != ["running"]:
            await asyncio.sleep(0.01)
    b.qpu.held = False
    b.qpu.release.set()
    assert (await a.engine.wait(first.id, 30)).state is JobState.DONE
    second = await a.submit(node="b")
    assert (await a.engine.wait(second.id, 30)).state is JobState.DONE
    async with asyncio.timeout(30):
        while [row[2] for row in b.rows()] != ["done", "done"]:
            await asyncio.sleep(0.01)


async def test_a_lent_job_that_its_runner_forgot_is_lent_again(site: EngineSite) -> None:
    a, b, _ = await three(site)
    assert b.qpu is not None
    b.qpu.held = True
    job = await a.submit(node="b")
    while not b.qpu.runs:
        await asyncio.sleep(0.001)
    assert b.rows() == []
    await b.kill()
    await b.start()
    b.qpu.held = False
    b.qpu.release.set()
    assert (await a.engine.wait(job.id, 30)).state is JobState.DONE
