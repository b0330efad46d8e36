"""The ledger over several nodes: owners and runners die and come back; a client sees one job and one end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.engine.fake import FakeQpu
from qedge.orchestrator.ledger import rows
from qedge.wire.envelope import purpose_of
from qedge.wire.jobs import JobHeard, JobOffer, JobState
from qedge.wire.ledger import RecordsAsk, RecordsFound, RecordsKeep, RecordsKept
from tests.unit.orchestrator.peer_site import EngineNode, EngineSite

BEFORE_ANY_DEADLINE_S = 10.0
"""An offer that nobody answers is given up after 15 s."""


async def four(site: EngineSite, **settings: float) -> tuple[EngineNode, EngineNode, EngineNode, EngineNode]:
    """Make an origin without a QPU and three runners."""
    a = await site.node("a", **settings)
    b, c, d = [await site.node(name, FakeQpu(name), **settings) for name in "bcd"]
    return a, b, c, d


async def until(holds: Callable[[], bool], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.01)


def hold(*nodes: EngineNode) -> None:
    for node in nodes:
        if node.qpu is not None:
            node.qpu.held = True
            node.qpu.release.clear()


def release(*nodes: EngineNode) -> None:
    for node in nodes:
        if node.qpu is not None:
            node.qpu.held = False
            node.qpu.release.set()


async def running(*nodes: EngineNode) -> EngineNode:
    """Return the node on which the first run began."""
    await until(lambda: any(node.qpu is not None and node.qpu.runs for node in nodes))
    return next(node for node in nodes if node.qpu is not None and node.qpu.runs)


async def test_a_job_for_any_node_is_copied_before_its_id_is_told_and_says_so(site: EngineSite) -> None:
    a, b, c, d = await four(site)
    hold(b, c, d)
    job = await a.submit(node="any")
    assert job.replicated is True
    assert job.epoch == 1
    assert sum(node.copies() for node in (b, c, d)) == 1
    release(b, c, d)
    assert (await a.end(job.id)).state is JobState.DONE


async def test_where_no_copy_can_be_made_in_time_the_job_is_accepted_and_says_so(site: EngineSite) -> None:
    a, b, c, d = await four(site, copy_wait_s=0.1)
    hold(b, c, d)
    site.network.lose_answer = lambda _caller, _callee, what: what == "records-keep/1"
    job = await a.submit(node="any")
    assert job.replicated is False
    release(b, c, d)
    assert (await a.end(job.id)).state is JobState.DONE


async def test_a_paused_runner_loses_its_lease_and_what_it_says_when_it_is_back_counts_for_nothing(
    site: EngineSite,
) -> None:
    a, b, c, d = await four(site, copies=0)
    hold(b, c, d)
    job = await a.submit(node="any", seed=1)
    first = await running(b, c, d)
    await until(lambda: any(row[2] == "running" for row in first.rows()))
    site.network.cut |= {frozenset((first.name, name)) for name in "abcd" if name != first.name}
    others = [node for node in (b, c, d) if node is not first]
    release(*others)
    view = await a.end(job.id)
    assert view.state is JobState.DONE
    assert view.node != first.name
    assert view.epoch == 2
    release(first)  # it ends the job, and holds what came of it
    await until(lambda: any(row[2] == "done" for row in first.rows()))
    site.network.cut.clear()
    site.network.tell_all()
    await until(lambda: first.ledger.errands.waiting() == 0)
    again = await a.desk.job(job.id)
    assert (again.node, again.epoch) == (view.node, 2)


async def test_ownership_is_regained_within_the_lease_and_a_second(site: EngineSite) -> None:
    a, b, c, d = await four(site, lease_s=1.0, copies=0)
    hold(b, c, d)
    await a.submit(node="any")
    first = await running(b, c, d)
    site.network.cut |= {frozenset((first.name, name)) for name in "abcd" if name != first.name}
    site.network.silent_cuts = True  # nothing but the lease tells that it is gone
    await until(lambda: site.runs() == 2, 2.5)


async def test_a_holder_adopts_the_job_of_a_dead_owner_which_yields_when_it_is_back(site: EngineSite) -> None:
    a, b, c, d = await four(site)
    hold(b, c, d)
    job = await a.submit(node="any", seed=3)
    await running(b, c, d)
    await a.kill()
    await until(lambda: any(node.owns(job.id) for node in (b, c, d)))
    owner = next(node for node in (b, c, d) if node.owns(job.id))
    release(b, c, d)
    view = await owner.end(job.id)
    assert view.state is JobState.DONE
    assert view.epoch >= 1 << 20
    other = next(node for node in (b, c, d) if node is not owner)
    assert (await other.desk.job(job.id)).result == view.result
    await a.start()
    back = await a.end(job.id)
    assert back.state is JobState.DONE
    assert back.result is not None
    assert view.result is not None
    assert back.result.counts == view.result.counts
    await until(lambda: a.rows()[0][2] == "done")


async def test_an_owner_that_is_cut_off_yields_to_the_one_that_adopted_and_a_client_sees_one_result(
    site: EngineSite,
) -> None:
    a, b, c, d = await four(site)
    hold(b, c, d)
    job = await a.submit(node="any")
    await running(b, c, d)
    site.network.cut |= {frozenset(("a", name)) for name in "bcd"}
    site.network.tell_all()
    await until(lambda: any(node.owns(job.id) for node in (b, c, d)))
    release(b, c, d)
    owner = next(node for node in (b, c, d) if node.owns(job.id))
    view = await owner.end(job.id)
    site.network.cut.clear()
    site.network.tell_all()
    there = await a.end(job.id)
    assert (there.state, there.epoch) == (JobState.DONE, view.epoch)


async def test_the_same_key_at_another_node_is_the_same_job_while_its_owner_lives_and_after_it_died(
    site: EngineSite,
) -> None:
    a, b, c, d = await four(site, copies=2)
    hold(b, c, d)
    job = await a.submit(node="any", client_key="k")
    for node in (b, c, d):
        assert (await node.submit(node="any", client_key="k")).id == job.id
    await a.kill()
    for node in (b, c, d):
        assert (await node.submit(node="any", client_key="k")).id == job.id
    release(b, c, d)
    assert {(await node.end(job.id)).state for node in (b, c, d)} == {JobState.DONE}
    # two may have taken it over at once; the end under the higher lease is soon everywhere
    async with asyncio.timeout(30):
        while len({msgspec.json.encode((await node.end(job.id)).result) for node in (b, c, d)}) > 1:
            await asyncio.sleep(0.01)
    with pytest.raises(QedgeError) as error:
        await b.submit("another program", node="any", client_key="k")
    assert error.value.code == "job.conflict"


async def test_a_key_is_found_though_a_dead_node_stands_before_the_one_that_knows_it(site: EngineSite) -> None:
    a, b, c, d = await four(site)
    hold(b, c, d)
    jobs = [await a.submit(node="any", client_key=f"k{index}") for index in range(12)]
    site.network.silent_cuts = True  # nobody has noticed yet that it is gone
    site.network.cut |= {frozenset(("a", name)) for name in "bcd"}
    for node in (b, c, d):
        for index, job in enumerate(jobs):
            assert (await node.submit(node="any", client_key=f"k{index}")).id == job.id
    release(b, c, d)
    views = [await b.end(job.id) for job in jobs]
    assert {view.state for view in views} == {JobState.DONE}


async def test_a_submission_repeated_five_times_runs_once(site: EngineSite) -> None:
    a, b, c, d = await four(site)
    jobs = [await a.submit(node="any", client_key="k") for _ in range(5)]
    assert len({job.id for job in jobs}) == 1
    await a.end(jobs[0].id)
    assert site.runs() == 1
    assert (await d.submit(node="any", client_key="k")).id == jobs[0].id
    assert site.runs() == 1
    del b, c


@pytest.mark.parametrize("copies", [1, 2])
async def test_a_key_that_comes_to_several_nodes_at_once_is_one_job_that_all_of_them_find(
    site: EngineSite, copies: int
) -> None:
    a, b, c, d = await four(site, copies=copies)

    async def ask(node: EngineNode, key: str, delay_s: float) -> str:
        await asyncio.sleep(delay_s)
        job = await node.submit(node="any", client_key=key)
        return (await node.end(job.id)).id

    for turn in range(18):
        nodes = [(a, b), (b, c), (c, a), (d, b), (a, d, c), (a, b, c, d)][turn % 6]
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(ask(node, f"k{turn}", 0.001 * place * (turn % 4))) for place, node in enumerate(nodes)
            ]
        assert len({task.result() for task in asked}) == 1, turn
        assert site.runs() == turn + 1


async def test_a_job_that_a_node_accepts_on_its_own_is_found_by_the_others_later(site: EngineSite) -> None:
    a, b = await site.node("a", FakeQpu("a")), await site.node("b", FakeQpu("b"))
    site.network.cut = {frozenset("ab")}
    job = await b.submit(node="any", client_key="k")
    assert job.replicated is False
    assert (await b.end(job.id)).state is JobState.DONE
    site.network.cut = set()
    site.network.tell_all()
    assert (await a.end(job.id)).state is JobState.DONE
    assert (await a.submit(node="any", client_key="k")).id == job.id
    assert site.runs() == 1


async def test_a_job_whose_id_was_told_is_left_to_no_other_one_though_no_copy_was_made(site: EngineSite) -> None:
    a, b = await site.node("a"), await site.node("b", FakeQpu("b"))
    site.network.lose_answer = lambda _caller, _callee, what: what == "records-keep/1"
    hold(b)
    job = await b.submit(node="any", client_key="k")
    assert job.replicated is False
    for ids in ((job.id,), ()):
        ask = RecordsAsk(ids, client="me", client_key="k", claim="0" if ids else "")
        found = await a.peers.call("b", ask, RecordsFound, deadline_s=5.0)
        assert [record.id for record in found.records] == [job.id]
    release(b)
    assert (await b.end(job.id)).state is JobState.DONE


async def test_a_job_whose_client_hangs_up_before_it_is_told_ends_all_the_same(site: EngineSite) -> None:
    a, b = await site.node("a"), await site.node("b", FakeQpu("b"))
    kind, _ = a.peers.served["records-keep/1"]
    a.peers.served["records-keep/1"] = kind, lambda _peer, _keep: asyncio.sleep(2.0, RecordsKept(()))
    request = asyncio.create_task(b.submit(node="any", client_key="k"))
    await until(lambda: bool(b.rows()))
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    again = await b.submit(node="any", client_key="k")
    assert (await b.end(again.id)).state is JobState.DONE
    assert (await a.end(again.id)).state is JobState.DONE


async def test_a_job_whose_owner_has_lost_it_goes_on_at_the_holder_that_a_client_asks(site: EngineSite) -> None:
    a, b = await site.node("a"), await site.node("b", FakeQpu("b"))
    hold(b)
    job = await a.submit(node="any", client_key="k")
    a.ledger.book.close(a.ledger.book.errands[job.id])
    await a.store.write(lambda connection: rows.forget(connection, job.id))
    release(b)
    again = await b.submit(node="any", client_key="k")
    assert again.id == job.id
    assert b.owns(job.id)
    assert (await b.end(job.id)).state is JobState.DONE


async def test_a_client_of_a_job_that_is_undecided_for_long_is_told_to_ask_again(site: EngineSite) -> None:
    a, b = await site.node("a", copy_wait_s=0.02), await site.node("b", FakeQpu("b"))
    hold(b)
    job = await a.submit(node="any", client_key="k")
    errand = a.ledger.book.errands[job.id]
    errand.untold, errand.replicated = True, False
    with pytest.raises(QedgeError, match="not clear yet") as caught:
        await b.submit(node="any", client_key="k")
    assert caught.value.code == "peer.timeout"
    assert not b.owns(job.id)
    errand.untold = False
    assert (await b.submit(node="any", client_key="k")).id == job.id
    release(b)
    assert (await b.end(job.id)).state is JobState.DONE


async def test_a_runner_that_answers_others_is_busy_and_not_quiet(site: EngineSite) -> None:
    a, b = await site.node("a", quiet_s=0.1, copies=0), await site.node("b", FakeQpu("b"))
    purpose = purpose_of(JobOffer)
    kind, _ = b.peers.served[purpose]
    b.peers.served[purpose] = kind, lambda _peer, _offer: asyncio.sleep(60, JobHeard())
    request = asyncio.create_task(a.submit(node="any"))
    book = a.ledger.book
    await until(lambda: any(grant is not None and grant.asked_ns for grant in a.grants()))
    now_ns = a.clock.now_ns() + 300_000_000
    assert len(book.quiet(now_ns)) == 1
    book.heard("b", now_ns - 1)
    assert book.quiet(now_ns) == []
    request.cancel()


async def test_a_cancel_reaches_the_runner_from_any_node_that_holds_the_record(site: EngineSite) -> None:
    a, b, c, d = await four(site)
    hold(b, c, d)
    job = await a.submit(node="any")
    runner = await running(b, c, d)
    keeper = next(node for node in (b, c, d) if node.copies())
    assert (await keeper.desk.cancel(job.id)).state is JobState.CANCELLED
    await until(lambda: [row[2] for row in runner.rows()] == ["cancelled"])
    assert (await a.desk.job(job.id)).state is JobState.CANCELLED


async def test_a_job_that_may_run_only_once_fails_where_its_run_is_cut_off(site: EngineSite) -> None:
    a, b, _, _ = await four(site)
    hold(b)
    assert b.qpu is not None
    job = await a.submit(node="b", once=True)
    await until(lambda: [row[2] for row in b.rows()] == ["running"])
    await b.kill()
    release(b)
    await b.start()
    view = await a.end(job.id)
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert view.error.code == "job.interrupted"
    assert len(b.qpu.runs) == 1
    b.qpu.crashes = 1
    view = await a.end((await a.submit(node="any", once=True)).id)
    assert view.state in (JobState.DONE, JobState.FAILED)
    assert b.qpu.crashes == 1 or len(b.qpu.runs) == 2


async def test_a_straggler_runs_on_a_second_node_and_the_first_result_counts(site: EngineSite) -> None:
    a, b, c, d = await four(site, straggler_min_s=0.3, straggler_factor=2.0, copies=0)
    for node in (b, c, d):
        assert node.qpu is not None
        node.qpu.time_s = 0.1
    hold(b, c, d)
    job = await a.submit(node="any")
    slow = await running(b, c, d)
    release(*(node for node in (b, c, d) if node is not slow))
    view = await a.end(job.id)
    assert view.state is JobState.DONE
    assert view.node != slow.name
    await until(lambda: [row[2] for row in slow.rows()] == ["cancelled"])
    assert site.runs() == 2


async def test_a_job_whose_runner_does_not_answer_runs_on_a_second_node_long_before_its_lease_ends(
    site: EngineSite,
) -> None:
    a, *_ = await four(site, lease_s=60.0, copies=0)
    site.network.mute = {"b"}
    jobs = [await a.submit(node="any", client_key=f"k{number}") for number in range(3)]
    views = [await a.end(job.id, BEFORE_ANY_DEADLINE_S) for job in jobs]
    assert {view.state for view in views} == {JobState.DONE}
    assert {view.node for view in views} <= {"c", "d"}
    assert a.ledger.book.errands == {}


async def test_the_end_under_the_first_of_two_leases_counts_with_a_holder_that_heard_of_the_job_meanwhile(
    site: EngineSite,
) -> None:
    a, b, c, d = await four(site, straggler_min_s=0.3, straggler_factor=2.0, copies=1)
    hold(b, c, d)
    job = await a.submit(node="any", client_key="k")
    first = await running(b, c, d)
    await until(lambda: len(a.ledger.book.leases.grants(job.id)) == 2)
    errand = a.ledger.book.errands[job.id]
    assert errand.view.epoch == 2
    holder = next(node for node in (b, c, d) if node.name in errand.holders)
    found = await a.peers.call(holder.name, RecordsKeep((errand.record(),)), RecordsKept, deadline_s=5.0)
    assert found == RecordsKept()
    release(first)
    view = await a.end(job.id)
    assert (view.node, view.epoch) == (first.name, 1)
    assert (await holder.end(job.id)).result == view.result


async def test_a_job_that_only_one_node_can_run_waits_for_that_one_while_it_does_not_answer(site: EngineSite) -> None:
    a = await site.node("a", lease_s=60.0, copies=0)
    b = await site.node("b", FakeQpu("b"))
    site.network.mute = {"b"}
    job = await a.submit(node="any")
    await asyncio.sleep(0.6)
    assert len(a.ledger.book.leases.grants(job.id)) == 1
    assert b.rows() == []


async def test_a_job_that_may_run_only_once_is_offered_to_one_node_though_that_does_not_answer(
    site: EngineSite,
) -> None:
    a, *others = await four(site, lease_s=60.0, copies=0)
    site.network.mute = {node.name for node in others}
    job = await a.submit(node="any", once=True)
    await asyncio.sleep(0.6)
    assert len(a.ledger.book.leases.grants(job.id)) == 1


async def test_a_job_is_not_offered_to_a_node_that_let_its_copy_wait(site: EngineSite) -> None:
    a = await site.node("a", lease_s=60.0, quiet_s=0.0)
    for name in "bc":
        await site.node(name, FakeQpu(name))
    site.network.mute = {"b"}
    jobs = await asyncio.gather(*(a.submit(node="any", client_key=f"k{number}") for number in range(6)))
    views = [await a.end(job.id, BEFORE_ANY_DEADLINE_S) for job in jobs]
    assert {(view.state, view.node) for view in views} == {(JobState.DONE, "c")}


async def test_a_drained_node_gives_its_jobs_away_and_none_fails(site: EngineSite) -> None:
    a, b, c, d = await four(site, drain_limit_s=0.5)
    hold(b, c, d)
    jobs = [await a.submit(str(index), node="any") for index in range(9)]
    await until(lambda: site.runs() == 3)
    await b.ledger.drain.change(undo=False)
    release(c, d)
    with pytest.raises(QedgeError) as error:
        await b.submit()
    assert error.value.code == "job.draining"
    for job in jobs:
        view = await a.end(job.id)
        assert view.state is JobState.DONE
        assert view.node in ("c", "d")
    await until(lambda: b.ledger.drain.view().state == "empty")
    await b.ledger.drain.change(undo=True)
    assert b.ledger.drain.view().state == "open"
    release(b)
    assert (await b.end((await b.submit()).id)).state is JobState.DONE


async def test_a_node_that_is_stopped_gives_its_jobs_away_at_once(site: EngineSite) -> None:
    a, b, c, d = await four(site)
    hold(b, c, d)
    jobs = [await a.submit(str(index), node="any") for index in range(6)]
    await until(lambda: site.runs() == 3)
    release(c, d)
    await b.ledger.drain.before_stop()
    assert b.ledger.errands.waiting() == 0
    await b.kill()
    views = [await a.end(job.id) for job in jobs]
    assert {view.state for view in views} == {JobState.DONE}
    assert {view.node for view in views} <= {"c", "d"}


async def test_a_node_stays_drained_over_a_restart(site: EngineSite) -> None:
    a = await site.node("a", FakeQpu("a"))
    await a.ledger.drain.change(undo=False)
    await a.kill()
    await a.start()
    await until(lambda: not a.ledger.drain.is_open)
    await a.ledger.drain.change(undo=True)
    assert (await a.end((await a.submit()).id)).state is JobState.DONE


async def test_a_job_of_this_node_alone_leaves_one_row_and_is_counted_once(site: EngineSite) -> None:
    a = await site.node("a", FakeQpu("a"))
    await site.node("b")
    job = await a.submit(node="any")
    view = await a.end(job.id)
    assert (view.state, view.node) == (JobState.DONE, "a")
    assert view.result is not None
    assert len(a.rows()) == 1
    assert a.engine.totals()[JobState.DONE] == 1
    async with asyncio.timeout(30):  # the runner hears that its word was taken a moment after the end is told
        while a.engine.keeper.untold:
            await asyncio.sleep(0.01)
