"""The job service: accepted means kept, every accepted job ends once, and every end has a reason."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.engine.config import EngineConfig
from qedge.engine.fake import FakeQpu
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.service import EngineService
from qedge.store.store import Store
from qedge.wire.jobs import JobState, JobSubmission, JobView

LONG_S = 20.0


class Memory:
    """A host with so much free memory."""

    def __init__(self, free_bytes: int = 10**9) -> None:
        self.free_bytes = free_bytes

    def available_bytes(self) -> int:
        return self.free_bytes


class Bench:
    """A service over one fake QPU."""

    def __init__(self, path: Path, qpu: FakeQpu, config: EngineConfig, memory: Memory) -> None:
        self.clock = ManualClock(now_ns=10**12)
        self.store = Store(path, metrics=Metrics())
        self.qpu = qpu
        self.service = EngineService(
            config,
            self.store,
            qpus=lambda: [qpu],
            memory=memory,
            clock=self.clock,
            metrics=Metrics(),
            random_bytes=os.urandom,
        )

    async def submit(self, program: str = "p", **fields: object) -> JobView:
        """Submit a job of client `me`."""
        return await self.service.submit(JobSubmission(program=program, **{"shots": 10, **fields}), "me")  # type: ignore[arg-type]

    async def end(self, job: JobView) -> JobView:
        """Wait for the end of a job."""
        view = await self.service.wait(job.id, LONG_S)
        assert view.state not in (JobState.QUEUED, JobState.RUNNING)
        return view


@asynccontextmanager
async def bench(
    tmp_path: Path, qpu: FakeQpu | None = None, memory: Memory | None = None, **settings: object
) -> AsyncIterator[Bench]:
    """Run a service for the length of a block."""
    config = EngineConfig(**settings)  # type: ignore[arg-type]
    made = Bench(tmp_path / "jobs.sqlite3", qpu or FakeQpu(), config, memory or Memory())
    up = asyncio.Event()
    task = asyncio.create_task(made.service.run(up.set))
    await up.wait()
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        made.store.close()


async def refusal(work: object) -> QedgeError:
    """Return the error that an awaitable ends with."""
    with pytest.raises(QedgeError) as error:
        await work  # type: ignore[misc]
    return error.value


async def test_an_accepted_job_is_in_the_database_and_ends_in_its_counts(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        job = await b.submit(seed=5)
        with sqlite3.connect(tmp_path / "jobs.sqlite3") as reader:
            assert reader.execute("SELECT count(*) FROM jobs WHERE id = ?", (job.id,)).fetchone() == (1,)
        reader.close()
        done = await b.end(job)
        assert done.state is JobState.DONE
        assert done.result is not None
        assert done.result.counts == {"00": 9, "11": 1}
        assert (done.result.seed, done.qpu, done.attempts) == (5, "fake", 1)
        assert {"admit", "queue", "run"} <= set(done.result.timings_s)


@pytest.mark.parametrize(
    ("shots", "code"), [(0, "job.bad_shots"), (-1, "job.bad_shots"), (10**9, "job.too_many_shots")]
)
async def test_shots_out_of_range_are_refused_before_any_work(tmp_path: Path, shots: int, code: str) -> None:
    async with bench(tmp_path) as b:
        assert (await refusal(b.submit(shots=shots))).code == code
        assert b.qpu.runs == []


async def test_a_program_that_is_too_long_is_refused_before_any_worker_has_it(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.is_ready = False  # nobody is there to look at it
    async with bench(tmp_path, qpu, qpu_wait_s=0.01, limits=ParseLimits(max_text_bytes=100)) as b:
        assert (await refusal(b.submit("x" * 101))).code == "circuit.too_large"
        assert (await refusal(b.submit("x" * 100))).code == "job.no_qpu"


async def test_the_same_key_is_the_same_job_and_another_request_under_it_a_conflict(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        first, second = [await b.submit(client_key="k") for _ in range(2)]
        assert first.id == second.id
        conflict = await refusal(b.submit("other", client_key="k"))
        assert conflict.code == "job.conflict"
        assert conflict.details["job"] == first.id
        await b.end(first)
        assert (await b.submit(client_key="k")).state is JobState.DONE
        assert b.qpu.runs == ["p"]


async def test_a_full_queue_refuses_and_says_its_limit(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.held = True
    async with bench(tmp_path, qpu, queue_limit=2) as b:
        jobs = [await b.submit()]
        while not qpu.runs:
            await asyncio.sleep(0)
        jobs += [await b.submit() for _ in range(2)]
        assert (await refusal(b.submit())).details == {"limit": 2, "retry_after_s": 0.1}
        assert [(await b.service.job(job.id)).queue_position for job in jobs] == [0, 1, 2]
        qpu.release.set()
        assert {(await b.end(job)).state for job in jobs} == {JobState.DONE}


async def test_a_job_too_large_for_the_memory_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.memory_bytes = 10**9
    async with bench(tmp_path, qpu, Memory(10**6)) as b:
        error = await refusal(b.submit())
        assert error.code in ("job.too_much_memory", "circuit.too_many_qubits")
        assert error.details["limit"] == 800_000
        assert "fits_qubits" in error.details


async def test_a_deadline_that_cannot_be_met_is_refused(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.time_s = 100.0
    async with bench(tmp_path, qpu) as b:
        assert (await refusal(b.submit(deadline_s=1.0))).code == "job.deadline_infeasible"


async def test_a_waiting_and_a_running_job_can_be_cancelled_and_an_ended_one_not(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.held = True
    async with bench(tmp_path, qpu) as b:
        running = await b.submit()
        while not qpu.runs:
            await asyncio.sleep(0)
        waiting = await b.submit()
        for job in (waiting, running):
            view = await b.service.cancel(job.id)
            assert view.state is JobState.CANCELLED
            assert view.error is not None
            assert view.error.code == "job.cancelled"
        assert (await refusal(b.service.cancel(running.id))).code == "job.already_ended"
        assert (await refusal(b.service.cancel("no-such-job"))).code == "job.not_found"


async def test_a_job_whose_worker_dies_runs_again_once_and_then_fails(tmp_path: Path) -> None:
    qpu = FakeQpu()
    async with bench(tmp_path, qpu) as b:
        qpu.crashes = 1
        again = await b.end(await b.submit())
        assert (again.state, again.attempts) == (JobState.DONE, 2)
        qpu.crashes = 2
        given_up = await b.end(await b.submit())
        assert (given_up.state, given_up.attempts) == (JobState.FAILED, 2)
        assert given_up.error is not None
        assert given_up.error.code == "worker.crashed"


async def test_counts_that_cannot_be_true_fail_the_job(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.lie = True
    async with bench(tmp_path, qpu) as b:
        view = await b.end(await b.submit())
        assert view.state is JobState.FAILED
        assert view.error is not None
        assert view.error.code == "driver.lied"


async def test_a_waiting_job_whose_deadline_passes_expires(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.held = True
    async with bench(tmp_path, qpu) as b:
        first = await b.submit()
        while not qpu.runs:
            await asyncio.sleep(0)
        second = await b.submit(deadline_s=5.0)
        b.clock.advance_s(6)
        assert (await b.end(second)).state is JobState.EXPIRED
        qpu.release.set()
        assert (await b.end(first)).state is JobState.DONE


async def test_a_restart_takes_up_what_waited_and_what_ran_and_keeps_results(tmp_path: Path) -> None:
    qpu = FakeQpu()
    async with bench(tmp_path, qpu) as b:
        done = await b.end(await b.submit("done"))
        qpu.held = True
        cut_off = await b.submit("running", seed=9)
        while qpu.runs[-1] != "running":
            await asyncio.sleep(0)
        waiting = await b.submit("waiting")
    async with bench(tmp_path, FakeQpu()) as b:
        assert (await b.service.job(done.id)).result == done.result
        views = [await b.end(job) for job in (cut_off, waiting)]
        assert [view.state for view in views] == [JobState.DONE] * 2
        assert [view.attempts for view in views] == [1, 1], "a run that the restart cut off is not the job's fault"
        assert views[0].result is not None
        assert views[0].result.seed == 9
        assert sorted(b.qpu.runs) == ["running", "waiting"]


async def test_a_result_that_finds_the_disk_full_is_kept_until_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qpu = FakeQpu()
    qpu.held = True
    async with bench(tmp_path, qpu) as b:
        job = await b.submit()
        while not qpu.runs:
            await asyncio.sleep(0)
        write, refusals = b.store.write, 2

        async def full_twice(work: object, *, accepted: bool = False, **how: bool) -> object:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise QedgeError("store.disk_full", "Full.")
            return await write(work, accepted=accepted, **how)  # type: ignore[arg-type]

        monkeypatch.setattr(b.store, "write", full_twice)
        qpu.release.set()
        assert (await b.end(job)).state is JobState.DONE
        assert refusals == 0


async def test_followers_see_every_state_of_a_job(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        changes = b.service.changes.follow()
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        job = await b.submit()
        states = [(await first).state]
        while states[-1] is not JobState.DONE:
            states.append((await anext(changes)).state)
        assert states == [JobState.QUEUED, JobState.RUNNING, JobState.DONE]
        assert (await b.service.jobs(10))[0].id == job.id
        await changes.aclose()  # type: ignore[attr-defined]


async def test_without_a_qpu_a_job_is_refused_and_an_unknown_name_is_said_at_once(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.is_ready = False
    async with bench(tmp_path, qpu, qpu_wait_s=0.01) as b:
        assert (await refusal(b.submit())).code == "job.no_qpu"
        assert (await refusal(b.submit(qpu="nobody"))).code == "driver.not_found"
        waiting = asyncio.create_task(refusal(b.submit(qpu="fake")))
        assert (await waiting).code == "job.no_qpu"


async def test_a_short_job_that_was_run_while_it_was_looked_at_has_ended_when_it_is_accepted(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.at_once = True
    async with bench(tmp_path, qpu) as b:
        for key in ("", "mine"):
            job = await b.submit(seed=5, client_key=key, fresh=True)
            assert (job.state, job.result) == (JobState.DONE, None)
            done = await b.service.job(job.id)
            assert done.result is not None
            assert (done.result.seed, done.result.counts, done.attempts) == (5, {"00": 9, "11": 1}, 1)
            assert {"admit", "queue", "run"} <= set(done.result.timings_s)
            # both jobs are of the same millisecond, within which ids have no order
            assert job.id in [view.id for view in await b.service.jobs(2)]
        assert (await b.submit(seed=5, client_key="mine", fresh=True)).id == job.id
        assert len(qpu.runs) == 2
        assert b.service.totals()[JobState.DONE] == 2


async def test_a_long_program_is_not_run_while_it_is_looked_at(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.at_once = True
    async with bench(tmp_path, qpu) as b:
        job = await b.submit("p" * (64 * 1024 + 1))
        assert job.state is not JobState.DONE  # the limit of time for short jobs is none for this one
        assert (await b.end(job)).state is JobState.DONE


async def test_a_job_that_was_run_but_cannot_be_written_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qpu = FakeQpu()
    qpu.at_once = True
    async with bench(tmp_path, qpu, client_queue_limit=1) as b:

        async def full(_work: object, *, accepted: bool = False, **_how: bool) -> object:
            raise QedgeError("store.disk_full", "Full.", accepted=accepted)

        with monkeypatch.context() as patch:
            patch.setattr(b.store, "write", full)
            error = await refusal(b.submit())
        assert (error.code, error.details["accepted"]) == ("store.disk_full", False)
        assert await b.service.jobs(10) == []
        assert (await b.submit()).state is JobState.DONE, "its place is free again"


async def test_a_short_job_waits_its_turn_where_others_wait_or_the_qpu_is_taken(tmp_path: Path) -> None:
    qpu = FakeQpu()
    qpu.held = True
    async with bench(tmp_path, qpu) as b:
        jobs = [await b.submit()]
        while not qpu.runs:
            await asyncio.sleep(0)
        qpu.at_once = True
        jobs += [await b.submit(), await b.submit()]
        assert [job.state for job in jobs[1:]] == [JobState.QUEUED] * 2
        qpu.release.set()
        for job in jobs:
            assert (await b.end(job)).state is JobState.DONE


class SlowDisk:
    """Stands before the writes of a store: while `stuck` what was written is not acknowledged."""

    def __init__(self, b: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self._write = b.store.write
        self.stuck = True
        self.moving = asyncio.Event()
        self.asked = asyncio.Event()
        monkeypatch.setattr(b.store, "write", self.write)

    async def write(self, work: object, **how: bool) -> object:
        """Write, and answer late."""
        writing = asyncio.ensure_future(self._write(work, **how))  # type: ignore[arg-type]
        await asyncio.wait({writing})
        self.asked.set()
        if self.stuck:
            await self.moving.wait()
        return writing.result()

    def move(self) -> None:
        """Answer again."""
        self.stuck = False
        self.moving.set()


async def hang_up(work: object, disk: SlowDisk) -> None:
    """Ask for something and go away once the disk has it."""
    asking = asyncio.ensure_future(work)  # type: ignore[arg-type, var-annotated]
    await disk.asked.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    disk.move()


async def test_a_job_whose_client_hung_up_while_a_slow_disk_wrote_it_runs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as b:
        await hang_up(b.submit(client_key="once"), SlowDisk(b, monkeypatch))
        again = await b.submit(client_key="once")
        assert (await b.end(again)).state is JobState.DONE
        assert len(b.qpu.runs) == 1


async def test_a_job_that_ran_at_once_ends_though_its_client_hung_up_while_a_slow_disk_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qpu = FakeQpu()
    qpu.at_once = True
    async with bench(tmp_path, qpu, client_queue_limit=1) as b:
        await hang_up(b.submit(), SlowDisk(b, monkeypatch))
        async with asyncio.timeout(5):
            while not b.service.totals()[JobState.DONE]:
                await asyncio.sleep(0)
        assert (await b.submit()).state is JobState.DONE, "the first one does not count for ever"


async def test_a_cancelled_job_ends_though_its_client_hung_up_while_a_slow_disk_wrote_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qpu = FakeQpu()
    qpu.held = True
    async with bench(tmp_path, qpu) as b:
        await b.submit()
        while not qpu.runs:
            await asyncio.sleep(0)
        waiting = await b.submit()
        await hang_up(b.service.cancel(waiting.id), SlowDisk(b, monkeypatch))
        assert (await b.end(waiting)).state is JobState.CANCELLED


@pytest.mark.parametrize("turns", range(6))
async def test_a_job_that_is_cancelled_in_the_moment_in_which_it_starts_ends_and_gives_its_slot_back(
    tmp_path: Path, turns: int
) -> None:
    qpu = FakeQpu()
    qpu.held = True
    async with bench(tmp_path, qpu) as b:
        job = await b.submit()
        for _ in range(turns):
            await asyncio.sleep(0)
        assert (await b.service.cancel(job.id)).state is JobState.CANCELLED
        qpu.held = False
        assert (await b.end(await b.submit())).state is JobState.DONE


async def test_a_job_that_may_run_once_and_is_cancelled_while_its_start_is_written_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as b:
        job = await b.submit(once=True)
        disk = SlowDisk(b, monkeypatch)
        await disk.asked.wait()
        cancelling = asyncio.ensure_future(b.service.cancel(job.id))
        await asyncio.sleep(0)
        disk.move()
        assert (await cancelling).state is JobState.CANCELLED
        assert (await b.end(await b.submit())).state is JobState.DONE


async def test_jobs_start_while_the_end_of_an_expired_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qpu = FakeQpu()
    qpu.held = True
    async with bench(tmp_path, qpu) as b:
        first = await b.submit("first")
        while not qpu.runs:
            await asyncio.sleep(0)
        late = await b.submit("late", deadline_s=5.0)
        other = await b.submit("other")
        disk = SlowDisk(b, monkeypatch)
        b.clock.advance_s(6)
        await disk.asked.wait()
        qpu.release.set()
        async with asyncio.timeout(5):
            while "other" not in qpu.runs:
                await asyncio.sleep(0)
        disk.move()
        states = [(await b.end(job)).state for job in (first, late, other)]
        assert states == [JobState.DONE, JobState.EXPIRED, JobState.DONE]
