"""What the job service has written down is kept as long as it was told to, whatever the clock on the wall does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.engine import changes as changing
from qedge.engine import keeper as keeping
from qedge.engine import ledger
from qedge.engine.changes import Changes
from qedge.engine.config import EngineConfig
from qedge.engine.keeper import Keeper
from qedge.engine.ledger_row import new_job
from qedge.engine.model import Job, ended_view
from qedge.engine.templates import Templates
from qedge.store.store import Store
from qedge.wire.jobs import JobEstimate, JobResult, JobState, JobSubmission

ESTIMATE = JobEstimate(2, 2, 3, 10, 1, 0.1, 1, "m")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(tmp_path / "jobs.sqlite3", metrics=Metrics())
    yield made
    made.close()


def ended_job(job_id: str, program: str = "p", key: str = "", client: str = "me") -> Job:
    """Make a job that ran."""
    job = new_job(job_id, JobSubmission(program=program, shots=10, client_key=key), client, ESTIMATE, 1, 0, 1)
    job.written = False
    return job


async def keep(keeper: Keeper, job: Job, ended_utc_ns: int) -> None:
    """Write a job down with its end."""
    await keeper.end(job, ended_view(job, JobState.DONE, ended_utc_ns, None, None), None)


async def test_a_clock_that_leaps_forward_erases_no_job_and_one_that_leaps_back_keeps_none_longer(store: Store) -> None:
    keeper, day_ns = Keeper(store), 86_400 * 10**9

    async def prune(passed_ns: int, keep: int = 100) -> int:
        return await store.write(lambda connection: ledger.prune(connection, passed_ns, 7 * day_ns, keep))

    await keep(keeper, ended_job("before"), 10**18)
    assert await prune(1) == 0
    await keep(keeper, ended_job("leapt-on"), 10**18 + 3650 * day_ns)
    assert await prune(6 * day_ns) == 0
    await keep(keeper, ended_job("leapt-back"), 1)
    assert await prune(2 * day_ns) == 1, "one is older than a week by the time that the node ran"
    assert [await _is_there(store, each) for each in ("before", "leapt-on", "leapt-back")] == [False, True, True]
    assert await prune(0, keep=1) == 1
    assert await _is_there(store, "leapt-back"), "the one that ended last"


async def _is_there(store: Store, job_id: str) -> bool:
    return await store.read(lambda connection: ledger.row(connection, job_id)) is not None


async def test_jobs_age_by_the_time_that_the_node_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_PRUNE_S", 0.001)
    monkeypatch.setattr(keeping, "_FIRST_PRUNE_S", 0.001)
    clock, keeper = ManualClock(now_ns=10**12), Keeper(store)
    await keep(keeper, ended_job("a"), clock.utc_ns())
    pruning = asyncio.create_task(keeper.prune(EngineConfig(keep_s=60.0), clock))
    try:
        async with asyncio.timeout(5):
            await asyncio.sleep(0.02)
            clock.step_utc_s(10**6)
            await asyncio.sleep(0.02)
            assert await _is_there(store, "a")
            while await _is_there(store, "a"):
                clock.advance_s(20)
                await asyncio.sleep(0.002)
    finally:
        pruning.cancel()
        await asyncio.gather(pruning, return_exceptions=True)


async def test_waiting_for_the_end_of_a_job_leaves_nothing_behind() -> None:
    changes = Changes()
    for number in range(3):
        await changes.wait_end(f"job-{number}", 0.0)
    waiter = asyncio.create_task(changes.wait_end("job", 5.0))
    await asyncio.sleep(0)
    await changes.wait_end("job", 0.0)
    assert changes.waiting == 1
    changes.ended(ended_view(ended_job("job"), JobState.DONE, 1, None, None))
    await waiter
    assert changes.waiting == 0


async def test_two_jobs_that_a_peer_lends_under_one_key_at_once_both_end(store: Store) -> None:
    keeper = Keeper(store)
    await keeper.load()
    one, other = (ended_job(name, name, key="k", client="node:b") for name in ("one", "other"))
    for job in (one, other):
        assert await keeper.accept(job, lent=True) == job.id
        async with asyncio.timeout(2):
            await keep(keeper, job, 5)
    assert await _is_there(store, "one")
    assert not await _is_there(store, "other")


async def test_what_must_be_written_is_not_tried_for_ever_where_it_can_never_be(store: Store) -> None:
    def conflict(_connection: object) -> None:
        raise QedgeError("job.conflict", "Never.")

    with pytest.raises(QedgeError, match=r"Never\."):
        async with asyncio.timeout(2):
            await store.insist(conflict)


async def test_a_program_is_kept_on_a_full_shelf_though_the_clock_stepped_back(store: Store) -> None:
    templates = Templates(store, 2)
    for text, utc_ns in (("a", 10**18), ("b", 10**18 + 1), ("c", 5)):
        kept = await templates.put(text, "me", utc_ns)
        assert await templates.program(kept) == text
    assert len(await templates.names(10)) == 2


async def test_a_job_that_can_be_read_no_more_keeps_the_node_from_no_other(store: Store) -> None:
    for name in ("good", "bad"):
        job = ended_job(name)
        await store.write(lambda connection, job=job: ledger.insert(connection, job))  # type: ignore[misc]
    await store.write(lambda connection: connection.execute("UPDATE jobs SET submission = x'c1' WHERE id = 'bad'"))
    assert [row.id for row in await store.read(ledger.unended)] == ["good"]
    assert [view.id for view in await store.read(lambda connection: ledger.newest(connection, 10))] == ["good"]


async def test_a_job_that_was_written_is_written_once_where_who_wrote_it_was_cancelled(store: Store) -> None:
    keeper, job = Keeper(store), ended_job(os.urandom(4).hex())
    await store.write(lambda connection: ledger.insert(connection, job))
    async with asyncio.timeout(2):
        await keep(keeper, job, 5)
    view = await store.read(lambda connection: ledger.view(connection, job.id))
    assert view is not None
    assert view.state is JobState.DONE


async def test_a_large_end_is_at_hand_for_a_moment_and_then_only_in_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changing, "_LARGE_S", 0.05)
    changes, counts = Changes(), {f"{number:020b}": 1 for number in range(4000)}
    result = JobResult(counts, len(counts), 1, (), {}, {})
    for number in range(6):
        view = ended_view(ended_job(f"large-{number}"), JobState.DONE, 1, result, None)
        changes.ended(msgspec.structs.replace(view, estimate=None))
    assert [changes.last(f"large-{number}") is not None for number in range(6)] == [False, False, *[True] * 4]
    async with asyncio.timeout(2):
        while any(changes.last(f"large-{number}") for number in range(6)):
            await asyncio.sleep(0.01)


async def test_the_end_that_was_told_last_is_the_one_at_hand_whatever_its_size() -> None:
    changes, counts = Changes(), {f"{number:020b}": 1 for number in range(4000)}
    large = JobResult(counts, len(counts), 1, (), {}, {})
    ends = [
        msgspec.structs.replace(ended_view(ended_job("job"), state, 1, result, None), estimate=None)
        for state, result in ((JobState.CANCELLED, None), (JobState.DONE, large), (JobState.FAILED, None))
    ]
    for view in ends:
        changes.ended(view)
        assert changes.last("job") is view
