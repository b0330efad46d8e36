"""Who owns a job where words overtake each other and questions are cut off: one node, and it goes on with it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable

import msgspec
import pytest

from qedge.engine.fake import FakeQpu
from qedge.orchestrator.ledger import rows
from qedge.wire.jobs import JobState, JobSubmission, LatencyClass
from qedge.wire.ledger import RecordsKeep
from tests.unit.orchestrator.peer_site import EngineSite
from tests.unit.orchestrator.test_ledger import hold, release, running, until


async def test_the_end_under_a_higher_epoch_is_told_after_the_one_that_is_being_written(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = [await site.node(name, FakeQpu(name)) for name in "ab"]
    hold(a, b)
    job = await a.submit(node="any", latency_class=LatencyClass.BATCH)
    await running(a, b)
    record = a.ledger.book.errands[job.id].record()
    go_on, write = asyncio.Event(), a.store.write

    async def slow(work: Callable[[sqlite3.Connection], object], *, patient: bool = False, **how: bool) -> object:
        if patient:
            await go_on.wait()
        return await write(work, patient=patient, **how)

    monkeypatch.setattr(a.store, "write", slow)
    ends = list[int]()
    with a.engine.changes.heard_by(
        lambda view: ends.append(view.epoch) if view.id == job.id and view.ended_utc_ns else None
    ):
        release(a, b)
        await until(lambda: a.ledger.book.is_ending(job.id))
        view = msgspec.structs.replace(record.view, state=JobState.CANCELLED, ended_utc_ns=1, epoch=1 << 20)
        higher = msgspec.structs.replace(record, epoch=1 << 20, view=view)
        yields = asyncio.ensure_future(a.ledger.owner.ownership.yield_to(higher))
        await asyncio.sleep(0.05)
        assert ends == []
        go_on.set()
        await yields
    assert ends[-1] == 1 << 20
    assert (await a.desk.job(job.id)).state is JobState.CANCELLED


async def test_a_job_is_adopted_to_the_end_though_who_asked_for_it_waits_no_more(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = [await site.node(name, FakeQpu(name), adopt_after_s=60.0) for name in "ab"]
    hold(a, b)
    job = await a.submit(node="any")
    await running(a, b)
    await until(lambda: b.ledger.keeping._custody.find(job.id) is not None)
    await a.kill()
    written, go_on, write = asyncio.Event(), asyncio.Event(), b.store.write

    async def slow(work: Callable[[sqlite3.Connection], object], **how: bool) -> object:
        found = await write(work, **how)
        written.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(b.store, "write", slow)
    asking = asyncio.ensure_future(b.ledger.keeping._adopt(job.id))
    await written.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    go_on.set()
    await until(lambda: b.owns(job.id), 2.0)
    release(b)
    assert (await b.end(job.id)).state is JobState.DONE


async def test_a_record_that_came_too_slowly_for_its_sender_is_watched_all_the_same(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = [await site.node(name, FakeQpu(name)) for name in "ab"]
    hold(a, b)
    written, write = asyncio.Event(), b.store.write

    async def slow(work: Callable[[sqlite3.Connection], object], **how: bool) -> object:
        await write(work, **how)
        written.set()
        await asyncio.Event().wait()

    job = await a.submit(node="a")
    record = rows.record_of(("a", "b"), "me", JobSubmission("p", shots=10), job, 0, b"")
    monkeypatch.setattr(b.store, "write", slow)
    keeping = asyncio.create_task(b.ledger.keeping._keep("a", RecordsKeep((record,))))
    await written.wait()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert b.ledger.keeping._custody.find(job.id) is not None


async def test_no_node_yields_a_job_to_itself(site: EngineSite) -> None:
    a, b = [await site.node(name, FakeQpu(name)) for name in "ab"]
    hold(a, b)
    job = await a.submit(node="any")
    runner = await running(a, b)
    own = a.ledger.book.errands[job.id].record()
    # as a holder says it that had the newer of two words first
    await a.ledger.owner.ownership.yield_to(msgspec.structs.replace(own, epoch=own.epoch + 1))
    assert a.owns(job.id)
    release(runner)
    assert (await a.end(job.id)).state is JobState.DONE
