"""The runner's side of leases where handlers end in the middle, and what it remembers of jobs that go elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar, cast

import msgspec
import pytest

from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.engine.changes import Changes
from qedge.engine.keeper import Keeper
from qedge.orchestrator.ledger.config import LedgerConfig
from qedge.orchestrator.ledger.errands import ErrandService
from qedge.orchestrator.ledger.loopback import PeersAndMe
from qedge.store.store import Store
from qedge.wire.jobs import (
    JobEstimate,
    JobHeard,
    JobNews,
    JobOffer,
    JobResult,
    JobState,
    JobSubmission,
    JobView,
)

T = TypeVar("T", bound=msgspec.Struct)
SHORT = JobEstimate(2, 2, 3, 10, 1000, 0.01, 100, "state_vector")
LONG = msgspec.structs.replace(SHORT, time_s=10.0)
RESULT = JobResult({"0": 5}, 5, 1, (), {"run": 0.1}, {"simulated": True})


class FewJobs:
    """Fills `Jobs`: one job at a time, which ends when a test says so."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.keeper = cast(Keeper, SimpleNamespace(lent=lambda *_: "", told=lambda _: None))
        self.estimate = SHORT
        self.view: JobView | None = None
        self.waits = asyncio.Event()

    async def submit(self, submission: JobSubmission, client: str, *, lent: bool = False) -> JobView:
        """Accept."""
        assert lent
        self.view = JobView("here", JobState.RUNNING, client, 0, 1, estimate=self.estimate)
        return self.view

    async def job(self, job_id: str) -> JobView:
        """Return it."""
        assert self.view is not None
        assert self.view.id == job_id
        return self.view

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """Wait for ever: what asked is cancelled meanwhile."""
        assert timeout_s > 0
        self.waits.set()
        await asyncio.Event().wait()
        return await self.job(job_id)

    async def cancel(self, job_id: str) -> JobView:
        """End it."""
        return await self.job(job_id)

    def end(self) -> None:
        """Let it end with a result."""
        assert self.view is not None
        self.view = msgspec.structs.replace(self.view, state=JobState.DONE, ended_utc_ns=2, result=RESULT)
        self.changes.ended(self.view)


class OneOwner:
    """Fills `Peers`."""

    def __init__(self) -> None:
        self.news: list[JobNews] = []

    def nodes(self) -> Sequence[SimpleNamespace]:
        """The owner is alive."""
        return [SimpleNamespace(name="owner", alive=True)]

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Hear news."""
        assert (node, deadline_s > 0) == ("owner", True)
        if isinstance(body, JobNews):
            self.news.append(body)
        return cast(T, JobHeard())

    def serve(self, _request: type[msgspec.Struct], _serve: Callable[..., Awaitable[msgspec.Struct]]) -> None:
        """Nobody asks here."""


class Runner:
    """A node that runs jobs of one owner."""

    def __init__(self, store: Store) -> None:
        self.jobs, self.owner = FewJobs(), OneOwner()
        peers = PeersAndMe("me", self.owner)  # type: ignore[arg-type] # what is used of the port
        self.errands = ErrandService(LedgerConfig(lease_s=1.0), self.jobs, store, peers, clock=SystemClock())
        self.given: list[tuple[str, str, int]] = []
        self.errands.given = lambda owner, job_id, epoch, _asked, _result: self.given.append((owner, job_id, epoch))

    def offer(self, job_id: str, *, epoch: int = 1) -> asyncio.Task[JobNews]:
        """Offer a job of the owner's."""
        offer = JobOffer(job_id, JobSubmission("p", shots=5, seed=1), epoch=epoch, lease_ms=60_000, holders=("owner",))
        return asyncio.create_task(self.errands._take("owner", offer))


@pytest.fixture
async def runner(tmp_path: Path) -> AsyncIterator[Runner]:
    store = Store(tmp_path / "node.sqlite3", metrics=Metrics())
    made, ready = Runner(store), asyncio.Event()
    task = asyncio.create_task(made.errands.run(ready.set))
    await ready.wait()
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    store.close()


async def test_the_end_of_a_job_is_told_though_the_answer_to_its_offer_was_cut_off(runner: Runner) -> None:
    taking = runner.offer("theirs")
    await runner.jobs.waits.wait()
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    runner.jobs.end()
    async with asyncio.timeout(10):
        while not any(news.job is not None and news.job.result == RESULT for news in runner.owner.news):
            await asyncio.sleep(0.01)
        while not runner.given:
            await asyncio.sleep(0.01)
    assert runner.given == [("owner", "theirs", 1)]
    assert runner.errands.waiting() == 0
    assert not runner.errands._given


async def test_a_job_that_is_given_back_leaves_nothing_behind(runner: Runner) -> None:
    runner.jobs.estimate = LONG
    await runner.offer("theirs")
    hold = runner.errands._held.find("theirs")
    assert hold is not None
    assert hold.asked
    await runner.errands.give_back(running=True)
    assert runner.errands.waiting() == 0
    assert runner.given == []


async def test_a_receipt_is_made_once_and_for_the_lease_under_which_the_result_was_told(runner: Runner) -> None:
    runner.jobs.estimate = LONG
    await runner.offer("theirs")
    await runner.offer("theirs", epoch=2)
    runner.jobs.end()
    async with asyncio.timeout(10):
        while not runner.given:
            await asyncio.sleep(0.01)
    assert runner.given == [("owner", "theirs", 2)]
