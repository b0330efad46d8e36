"""Short jobs: one that stays, or that another node ends soon, is written and told once, and none is offered twice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.engine.fake import FakeQpu
from qedge.orchestrator.ledger.config import LedgerConfig
from qedge.orchestrator.ledger.copying import CopyHooks, CopyService
from qedge.orchestrator.ledger.loopback import PeersAndMe
from qedge.wire.jobs import JobState, JobSubmission, JobView, LatencyClass
from qedge.wire.ledger import JobRecord, RecordsKeep, RecordsKept
from tests.unit.orchestrator.peer_site import EngineNode, EngineSite

T = TypeVar("T")
SMALL = "OPENQASM 3.0; qubit[2] q; bit[2] c; c = measure q;"


class Said:
    """Counts what nodes ask each other."""

    def __init__(self, site: EngineSite) -> None:
        self.purposes: Counter[str] = Counter()
        site.network.deliver_twice = self._count

    def _count(self, _caller: str, _callee: str, purpose: str) -> bool:
        self.purposes[purpose] += 1
        return False


class Writes:
    """Counts transactions of a node."""

    def __init__(self, node: EngineNode) -> None:
        self.number = 0
        self._write = node.store.write
        node.store.write = self._count  # type: ignore[method-assign]

    async def _count(self, work: Callable[[sqlite3.Connection], T], **how: bool) -> T:
        self.number += 1
        return await self._write(work, **how)


def quick(name: str) -> FakeQpu:
    made = FakeQpu(name)
    made.at_once = True
    return made


async def until(holds: Callable[[], bool], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.01)


async def pair(site: EngineSite) -> tuple[EngineNode, EngineNode]:
    """Make a node that runs small jobs at once, and one that only holds its records."""
    return await site.node("a", quick("a")), await site.node("b")


async def test_a_short_job_that_stays_has_ended_when_its_id_is_told_and_its_record_goes_out_once(
    site: EngineSite,
) -> None:
    a, b = await pair(site)
    said = Said(site)
    job = await a.submit(SMALL, node="any")
    assert (job.state, job.node, job.epoch, job.attempts) == (JobState.DONE, "a", 1, 1)
    await until(lambda: b.copies() == 1)
    await until(lambda: a.rows() == [("me", "", "done")])
    await asyncio.sleep(0.2)
    assert said.purposes == {"records-keep/1": 1}
    assert a.rows() == [("me", "", "done")]
    assert (await a.end(job.id)).result is not None
    assert (await b.desk.job(job.id)).result is not None


async def test_ends_of_short_jobs_travel_together(site: EngineSite) -> None:
    a, b = await pair(site)
    said = Said(site)
    await asyncio.gather(*(a.submit(f"{SMALL} // {number}", node="any") for number in range(8)))
    await until(lambda: b.copies() == 8)
    assert said.purposes["records-keep/1"] <= 2


async def test_a_job_with_a_clients_key_or_that_may_run_only_once_is_written_down_before_it_runs(
    site: EngineSite,
) -> None:
    a, b = await pair(site)
    site.network.lose_answer = lambda _caller, _callee, what: what == "records-keep/1"
    for fields in ({"client_key": "k"}, {"once": True}):
        job = await a.submit(f"{SMALL} // {fields}", node="any", **fields)
        assert job.state is not JobState.DONE or job.replicated is False
        assert (await a.end(job.id)).state is JobState.DONE
    assert site.runs() == 2
    assert b.running


async def test_a_short_job_that_is_refused_or_fails_says_why_as_any_other(site: EngineSite) -> None:
    a, _ = await pair(site)
    assert a.qpu is not None
    a.qpu.lie = True
    job = await a.end((await a.submit(SMALL, node="any")).id)
    assert (job.state, job.error is not None and job.error.code) == (JobState.FAILED, "driver.lied")


async def test_a_short_job_that_cannot_be_written_down_was_not_accepted(site: EngineSite) -> None:
    a, _ = await pair(site)

    async def refuse(*_: object, **__: object) -> None:
        raise QedgeError("store.disk_full", "Full.")

    written, a.store.write = a.store.write, refuse  # type: ignore[method-assign,assignment]
    with pytest.raises(QedgeError) as found:
        await a.submit(SMALL, node="any")
    a.store.write = written  # type: ignore[method-assign]
    assert found.value.code == "store.disk_full"
    assert a.grants() == []
    assert a.rows() == []
    assert (await a.submit(SMALL, node="any")).state is JobState.DONE


async def test_a_job_that_goes_elsewhere_is_offered_once_though_the_answer_of_its_holder_comes_later(
    site: EngineSite,
) -> None:
    a = await site.node("a")
    b = await site.node("b", FakeQpu("b"))
    assert b.qpu is not None
    b.qpu.held = True
    said = Said(site)
    job = await a.submit(SMALL, node="any")
    await until(lambda: bool(b.qpu and b.qpu.runs))
    await asyncio.sleep(0.3)
    b.qpu.release.set()
    assert (await a.end(job.id)).state is JobState.DONE
    assert said.purposes["job-offer/1"] == 1


@pytest.mark.parametrize("wanted", ["any", "b"])
async def test_a_short_job_at_another_node_has_ended_when_its_id_is_told_and_was_written_once(
    site: EngineSite, wanted: str
) -> None:
    a, b = await site.node("a"), await site.node("b", quick("b"))
    said, writes = Said(site), Writes(a)
    job = await a.submit(SMALL, node=wanted)
    assert (job.state, job.node, job.epoch, job.attempts) == (JobState.DONE, "b", 1, 1)
    assert writes.number == 1
    assert said.purposes["job-offer/1"] == 1
    assert a.rows() == [("me", "", "done")]
    assert (await a.end(job.id)).result is not None
    if wanted == "any":
        await until(lambda: b.copies() == 1)
        assert said.purposes["records-keep/1"] == 1


async def test_a_short_job_at_another_node_that_takes_its_time_is_accepted_while_it_runs(site: EngineSite) -> None:
    a, b = await site.node("a"), await site.node("b", FakeQpu("b"))
    assert b.qpu is not None
    b.qpu.held = True
    said = Said(site)
    job = await a.submit(SMALL, node="b")
    assert job.state is not JobState.DONE
    assert [state for _, _, state in a.rows()] == ["queued"]
    b.qpu.release.set()
    assert (await a.end(job.id)).state is JobState.DONE
    assert (said.purposes["job-offer/1"], site.runs()) == (1, 1)


async def test_a_short_job_that_another_node_refuses_goes_the_usual_way(site: EngineSite) -> None:
    a, b = await site.node("a"), await site.node("b", quick("b"))
    assert b.qpu is not None
    b.qpu.lie = True
    job = await a.end((await a.submit(SMALL, node="b")).id)
    assert (job.state, job.error is not None and job.error.code) == (JobState.FAILED, "driver.lied")


async def test_a_short_job_whose_answer_is_lost_is_offered_again_and_runs_once(site: EngineSite) -> None:
    a, _ = await site.node("a"), await site.node("b", quick("b"))
    lost = iter([True])
    site.network.lose_answer = lambda _caller, _callee, what: what == "job-offer/1" and next(lost, False)
    job = await a.end((await a.submit(SMALL, node="b")).id)
    assert (job.state, job.node, site.runs()) == (JobState.DONE, "b", 1)


async def test_a_job_of_a_node_that_dies_between_offer_and_answer_was_not_accepted_and_its_result_has_no_effect(
    site: EngineSite,
) -> None:
    a, b = await site.node("a"), await site.node("b", FakeQpu("b"))
    assert b.qpu is not None
    b.qpu.held = True
    asking = asyncio.create_task(a.submit(SMALL, node="b"))
    await until(lambda: bool(b.qpu and b.qpu.runs))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await a.kill()
    before = a.rows()
    await a.start()
    b.qpu.release.set()
    await until(lambda: not b.ledger.errands.waiting())
    assert a.rows() == before
    assert a.grants() == []


async def test_jobs_that_may_run_once_or_have_a_key_are_written_down_before_another_node_hears_of_them(
    site: EngineSite,
) -> None:
    a, b = await site.node("a"), await site.node("b", quick("b"))
    for fields in ({"client_key": "k"}, {"once": True}):
        writes = Writes(a)
        job = await a.submit(f"{SMALL} // {fields}", node="b", **fields)
        assert (await a.end(job.id)).state is JobState.DONE
        assert writes.number == 2
    assert b.running


async def test_a_short_job_at_another_node_that_cannot_be_written_down_was_not_accepted(site: EngineSite) -> None:
    a, _ = await site.node("a"), await site.node("b", quick("b"))

    async def refuse(*_: object, **__: object) -> None:
        raise QedgeError("store.disk_full", "Full.")

    written, a.store.write = a.store.write, refuse  # type: ignore[method-assign,assignment]
    with pytest.raises(QedgeError) as found:
        await a.submit(SMALL, node="b")
    a.store.write = written  # type: ignore[method-assign]
    assert found.value.code == "store.disk_full"
    assert (a.grants(), a.rows()) == ([], [])
    assert (await a.submit(SMALL, node="b")).state is JobState.DONE


class OneHolder:
    """Fills `Peers`: node h, which takes records when it is let."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, ...]] = []
        self.free = asyncio.Event()
        self.free.set()

    def nodes(self) -> list[object]:
        from qedge.engine.ports import PeerNode

        return [PeerNode("h", True, False, 1)]

    async def call(self, _node: str, body: RecordsKeep, _answer: type, *, deadline_s: float) -> RecordsKept:
        assert deadline_s > 0
        self.batches.append(tuple(record.id for record in body.records))
        if body.records[0].submission.latency_class is LatencyClass.BATCH:
            await self.free.wait()
        return RecordsKept()

    def serve(self, _request: type, _serve: object) -> None:
        return

    def on_change(self, _hook: object) -> None:
        return


def record(job_id: str, latency: LatencyClass = LatencyClass.INTERACTIVE, *, ended: bool = False) -> JobRecord:
    view = JobView(job_id, JobState.DONE if ended else JobState.QUEUED, 1, 0, "me", ended_utc_ns=int(ended))
    return JobRecord(job_id, 1, ("a", "h"), "me", JobSubmission("p", latency_class=latency), view)


@pytest.fixture
async def copies() -> AsyncIterator[tuple[CopyService, OneHolder]]:
    async def known(_record: JobRecord) -> None:
        return

    holder = OneHolder()
    made = CopyService(
        LedgerConfig(copy_wait_s=2.0),
        PeersAndMe("a", holder),  # type: ignore[arg-type]
        CopyHooks(known, lambda _job_id: None, lambda _node, _now_ns: None, lambda _job_id, _other, _node: None),
        clock=SystemClock(),
        metrics=Metrics(),
    )
    ready = asyncio.Event()
    task = asyncio.create_task(made.run(ready.set))
    await ready.wait()
    yield made, holder
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_end_of_a_job_goes_in_place_of_its_open_record_that_lingers(
    copies: tuple[CopyService, OneHolder],
) -> None:
    made, holder = copies
    waiting = asyncio.create_task(made.put(record("j"), linger=True))
    await asyncio.sleep(0)
    assert made.waiting() == 1
    made.tell(record("j", ended=True))
    assert await waiting is False
    await until(lambda: holder.batches == [("j",)])
    assert await made.put(record("k"), linger=True) is True
    assert holder.batches == [("j",), ("k",)]


async def test_records_of_urgent_jobs_overtake_those_of_batch_jobs(copies: tuple[CopyService, OneHolder]) -> None:
    made, holder = copies
    holder.free.clear()
    batch = asyncio.create_task(made.put(record("slow", LatencyClass.BATCH)))
    await until(lambda: holder.batches == [("slow",)])
    assert await made.put(record("quick")) is True
    assert not batch.done()
    holder.free.set()
    assert await batch is True
