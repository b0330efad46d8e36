"""A member of the fleet that lies about jobs: forged claims, stolen leases, floods. Nothing it says has any effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.engine.fake import FakeQpu
from qedge.orchestrator.ledger import rows
from qedge.orchestrator.ledger.epochs import adopted_epoch
from qedge.wire.jobs import (
    JobAsk,
    JobHeard,
    JobNews,
    JobOffer,
    JobResult,
    JobState,
    JobStop,
    JobSubmission,
    JobTidings,
    JobView,
    Register,
)
from qedge.wire.ledger import (
    HeldLease,
    JobCancel,
    JobRecord,
    LeaseAnswer,
    LeaseRenewal,
    RecordsAsk,
    RecordsFound,
    RecordsKeep,
    RecordsKept,
)
from tests.unit.orchestrator.peer_site import EngineNode, EngineSite


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[EngineSite]:
    made = EngineSite(tmp_path)
    yield made
    await made.close()


class Attack:
    """An owner `a`, its runner `b`, which holds one job for as long as it wants, and the `thief`, a member as well."""

    def __init__(self, owner: EngineNode, runner: EngineNode, thief: EngineNode, job: JobView) -> None:
        self.owner, self.runner, self.thief, self.job = owner, runner, thief, job

    async def says(self, to: str, body: msgspec.Struct, answer: type[msgspec.Struct] = JobHeard) -> str:
        """Return the code with which what the thief says is refused, or nothing."""
        try:
            await self.thief.peers.call(to, body, answer, deadline_s=2)
        except QedgeError as error:
            return error.code
        return ""

    def record(self, epoch: int, holders: tuple[str, ...], *, ended: bool = True) -> JobRecord:
        state = JobState.CANCELLED if ended else JobState.QUEUED
        view = JobView(self.job.id, state, 10, 1, "me", ended_utc_ns=int(ended), epoch=epoch)
        return JobRecord(self.job.id, epoch, holders, "me", JobSubmission(program="evil"), view)

    async def unharmed(self) -> None:
        """See the job end as if nobody had said anything."""
        assert self.runner.qpu is not None
        assert (await self.owner.desk.job(self.job.id)).state in (JobState.QUEUED, JobState.RUNNING)
        self.runner.qpu.release.set()
        view = await self.owner.end(self.job.id)
        assert (view.state, view.node, view.epoch) == (JobState.DONE, "b", self.job.epoch)
        assert self.runner.qpu.runs == ["p"]


@pytest.fixture
async def attack(site: EngineSite) -> Attack:
    owner = await site.node("a", copies=0)
    runner = await site.node("b", FakeQpu("b"))
    assert runner.qpu is not None
    runner.qpu.held = True
    job = await owner.submit(node="any")
    while not runner.qpu.runs:
        await asyncio.sleep(0.01)
    thief = await site.node("thief")
    return Attack(owner, runner, thief, job)


async def test_a_result_from_somebody_else_or_under_another_epoch_is_refused(attack: Attack) -> None:
    job = attack.job
    forged = msgspec.structs.replace(job, state=JobState.FAILED, ended_utc_ns=1)
    for epoch in (0, job.epoch, job.epoch + 1, 1 << 40):
        assert await attack.says("a", JobNews(job.id, forged, epoch)) == "job.not_found"
        assert await attack.says("a", JobNews(job.id, None, epoch)) == "job.not_found"
    await attack.unharmed()


async def test_a_result_that_cannot_be_true_is_not_taken_from_the_runner_itself(attack: Attack) -> None:
    job, runner = attack.job, attack.runner
    result = JobResult({"11": 11}, 11, 1, (Register("c", 2, 0),), {}, {"method": "fake"})  # of 10 shots
    forged = msgspec.structs.replace(job, state=JobState.DONE, ended_utc_ns=1, node="b", result=result)
    await runner.peers.call("a", JobNews(job.id, forged, job.epoch), JobHeard, deadline_s=2)
    assert (await attack.owner.desk.job(job.id)).state in (JobState.QUEUED, JobState.RUNNING)
    assert runner.qpu is not None
    runner.qpu.release.set()
    ended = (await attack.owner.end(job.id)).result
    assert ended is not None
    assert ended.shots == sum(ended.counts.values()) == 10


async def test_a_record_of_an_earlier_owner_does_not_replace_that_of_a_later_one(site: EngineSite) -> None:
    holder = await site.node("b")
    old = JobView("job", JobState.QUEUED, 10, 1, "me", epoch=1)
    first = JobRecord("job", 1, ("a", "b", "c"), "me", JobSubmission(program="p"), old)
    newer = msgspec.structs.replace(first, epoch=adopted_epoch(1, 2), view=msgspec.structs.replace(old, epoch=9))
    ended = msgspec.structs.replace(first, view=msgspec.structs.replace(old, state=JobState.DONE, ended_utc_ns=5))
    for record in (first, newer, first, ended):
        kept = await holder.store.write(lambda connection, each=record: rows.keep(connection, "a", each))
    assert kept.before == newer  # which whoever sent the old one is told
    assert await holder.store.read(lambda connection: rows.copy(connection, "job")) == newer


async def test_a_renewal_of_somebody_elses_lease_renews_nothing_and_is_answered_with_stop(attack: Attack) -> None:
    answer = await attack.thief.peers.call(
        "a",
        LeaseRenewal((HeldLease(attack.job.id, attack.job.epoch), HeldLease("unknown", 1))),
        LeaseAnswer,
        deadline_s=2,
    )
    assert set(answer.stale) == {attack.job.id, "unknown"}
    await attack.unharmed()


async def test_a_running_job_is_neither_taken_over_nor_stopped_nor_seen_by_who_does_not_own_it(attack: Attack) -> None:
    job = attack.job
    evil = JobSubmission(program="evil")
    for epoch in (job.epoch, job.epoch + 1, adopted_epoch(job.epoch, 1), 1 << 60):
        offer = JobOffer(job.id, evil, epoch, 1000, ("a", "thief"))
        assert await attack.says("b", offer, JobNews) == "job.stale_lease"
        await attack.says("b", JobStop(job.id, epoch))
    await attack.says("b", JobStop(job.id))
    tidings = await attack.thief.peers.call("b", JobAsk((job.id,)), JobTidings, deadline_s=2)
    assert [news.job for news in tidings.news] == [None]
    await attack.unharmed()


async def test_an_owner_does_not_yield_to_a_record_of_who_is_no_holder(attack: Attack) -> None:
    job = attack.job
    for holders in (("thief", "a"), ("a", "thief"), ("a", "b", "thief"), ("a",)):
        for epoch in (job.epoch, *(adopted_epoch(job.epoch, rank) for rank in range(4)), 1 << 60):
            record = attack.record(epoch, holders)
            kept = await attack.thief.peers.call("a", RecordsKeep((record,)), RecordsKept, deadline_s=2)
            assert kept.refused == (job.id,) or kept.known == () or kept.known[0].id == job.id
    assert await attack.says("a", JobCancel(job.id)) == "job.not_found"
    await attack.unharmed()


async def test_a_record_that_another_node_gave_is_not_replaced_by_who_does_not_hold_it(site: EngineSite) -> None:
    a, b, thief = await site.node("a"), await site.node("b", FakeQpu("b")), await site.node("thief")
    assert b.qpu is not None
    b.qpu.held = True
    job = await a.submit(node="any", client_key="k")
    holder = next((node for node in (b, thief) if node.copies()), None)
    assert holder is not None
    known = await a.peers.call(holder.name, RecordsAsk((job.id,)), RecordsFound, deadline_s=2)
    attack = Attack(a, b, thief, job)
    if holder is b:
        for epoch in (1 << 20, 2 << 20, 3 << 20):
            await attack.says("b", RecordsKeep((attack.record(epoch, ("b", "thief", "thief", "thief")),)), RecordsKept)
    again = await a.peers.call(holder.name, RecordsAsk((job.id,)), RecordsFound, deadline_s=2)
    assert again.records[0].submission == known.records[0].submission
    assert again.records[0].holders == known.records[0].holders
    b.qpu.release.set()
    assert (await a.end(job.id)).state is JobState.DONE


async def test_a_holder_says_who_owns_a_job_under_its_own_rank_alone(site: EngineSite) -> None:
    a, b, thief = await site.node("a"), await site.node("b", FakeQpu("b")), await site.node("thief")
    assert b.qpu is not None
    b.qpu.held = True
    for number in range(50):
        job = await a.submit(node="any", client_key=str(number))
        if a.ledger.book.errands[job.id].holders == ("a", "thief"):
            break
    known = a.ledger.book.errands[job.id].record()
    ended = msgspec.structs.replace(known.view, state=JobState.CANCELLED, ended_utc_ns=1)
    forged = msgspec.structs.replace(known, epoch=adopted_epoch(known.epoch, 0), view=ended)  # as `a` might say itself
    kept = await thief.peers.call("a", RecordsKeep((forged,)), RecordsKept, deadline_s=2)
    assert kept.refused == (job.id,)
    assert (await a.desk.job(job.id)).state in (JobState.QUEUED, JobState.RUNNING)
    b.qpu.held = False
    b.qpu.release.set()


async def test_of_two_ends_that_come_at_once_the_first_is_written_and_told(attack: Attack) -> None:
    owner, job = attack.owner, attack.job
    errand, told = owner.ledger.book.errands[job.id], list[JobState]()

    def hear(view: JobView) -> None:
        if view.ended_utc_ns:
            told.append(view.state)

    with owner.engine.changes.heard_by(hear):
        ends = (JobState.CANCELLED, JobState.FAILED)
        await asyncio.gather(*(owner.ledger.owner.end(errand, state, winner=errand.grant) for state in ends))
    assert told == [JobState.CANCELLED]
    assert (await owner.desk.job(job.id)).state is JobState.CANCELLED


async def test_a_flood_of_offers_is_cut_off_and_leaves_room_for_others(site: EngineSite) -> None:
    b = await site.node("b", FakeQpu("b"), leases_of_one=5)
    a, thief = await site.node("a"), await site.node("thief")
    assert b.qpu is not None
    b.qpu.held = True
    attack = Attack(a, b, thief, JobView("none", JobState.QUEUED, 1, 1, "me"))
    flood = [
        attack.says("b", JobOffer(f"job {index}", JobSubmission(program="p", shots=10), 1, 60_000), JobNews)
        for index in range(50)
    ]
    codes = await asyncio.gather(*flood)
    assert codes.count("") == 5
    assert codes.count("job.queue_full") == 45
    job = await a.submit(node="any")
    async with asyncio.timeout(30):
        while (await a.desk.job(job.id)).node != "b":
            await asyncio.sleep(0.01)
    b.qpu.held = False
    b.qpu.release.set()
    assert (await a.end(job.id)).state is JobState.DONE


async def test_a_flood_of_records_is_cut_off(site: EngineSite) -> None:
    b, thief = await site.node("b", records_of_one=20), await site.node("thief")
    kept = 0
    for index in range(60):
        view = JobView(f"j{index}", JobState.QUEUED, 10, 1, "me")
        record = JobRecord(view.id, 0, ("thief", "b"), "me", JobSubmission(program="p"), view)
        answer = await thief.peers.call("b", RecordsKeep((record,)), RecordsKept, deadline_s=2)
        kept += not answer.refused
    assert kept == b.copies() == 20
