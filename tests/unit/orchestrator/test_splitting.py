"""Jobs in parts: cut so that nothing is missing or doubled, run anywhere, put together to what one run would give."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.engine.fake import FakeQpu
from qedge.engine.ports import PARTS
from qedge.orchestrator.elsewhere import Ways
from qedge.orchestrator.ledger.deciding import unclear
from qedge.orchestrator.splitting.cutting import Part, cut, part_seed
from qedge.orchestrator.splitting.merging import merge
from qedge.orchestrator.splitting.service import Split, SplitService
from qedge.wire.jobs import JobResult, JobState, JobSubmission, JobView, Register
from qedge.wire.tasks import (
    AmplitudeTask,
    ExpectationResult,
    ExpectationTask,
    KernelResult,
    KernelTask,
    QaoaTask,
    QecResult,
    QecTask,
    SampleResult,
    SampleTask,
    Task,
    TaskResult,
)
from tests.unit.orchestrator.peer_site import EngineNode, EngineSite

BITS = (Register("c", 2, 0),)
Z0 = {"Z0": 1.0}


def ended(
    part: Part, data: TaskResult | None = None, counts: dict[str, int] | None = None, **fields: object
) -> JobView:
    """Make a part that ended well."""
    shots, seed = part.submission.shots, part.submission.seed or 0
    result = JobResult(
        counts={} if counts is None else counts,
        shots=shots,
        seed=seed,
        registers=BITS,
        timings_s={"run": 0.5},
        metadata={"method": "fake", "simulated": True},
        data=data,
    )
    result = msgspec.structs.replace(result, **fields)
    return JobView("p", JobState.DONE, shots, 1, "me", qpu="q", node="b", attempts=1, result=result)


def submission(task: Task | None = None, *, parts: int = 4, shots: int = 10) -> JobSubmission:
    """Make a job that is to be cut."""
    return JobSubmission(program="p", shots=shots, task=task, parts=parts)


@given(st.integers(1, 64), st.integers(1, 10_000), st.integers(0, 2**32 - 1))
def test_shots_are_cut_into_nearly_equal_parts_with_nothing_lost_and_a_seed_each(
    parts: int, shots: int, seed: int
) -> None:
    made = cut(submission(parts=parts, shots=shots), seed)
    sizes = [part.submission.shots for part in made]
    assert sum(sizes) == shots
    assert len(made) == min(parts, shots)
    assert max(sizes) - min(sizes) <= 1
    assert len({part.submission.seed for part in made}) == len(made)
    assert made == cut(submission(parts=parts, shots=shots), seed)
    assert {part.submission.parts for part in made} == {0}


@given(st.integers(1, 64), st.integers(2, 300))
def test_a_sweep_is_cut_by_its_points_in_order(parts: int, points: int) -> None:
    column = tuple(float(point) for point in range(points))
    task = SampleTask(sweep={"a": column, "b": column})
    made = cut(submission(task, parts=parts), 7)
    swept = [part.submission.task.sweep for part in made if isinstance(part.submission.task, SampleTask)]
    for name in "ab":
        assert tuple(itertools.chain.from_iterable(sweep[name] for sweep in swept)) == column
    assert {part.submission.shots for part in made} == {10}


@given(st.integers(1, 64), st.integers(1, 40), st.integers(0, 40))
@settings(deadline=None)
def test_tiles_of_a_kernel_cover_every_entry_once_and_are_put_back_where_they_belong(
    parts: int, rows: int, columns: int
) -> None:
    def value(row: float, column: float) -> float:
        return row * 100 + column if columns else (row + column) + 1 / (1 + row * column)

    task = KernelTask(("x",), tuple((float(i),) for i in range(rows)), tuple((float(i) / 2,) for i in range(columns)))
    whole = submission(task, parts=parts)
    made = cut(whole, 1)
    assert len(made) <= max(parts, 1)
    views = []
    for part in made:
        some = part.submission.task
        assert isinstance(some, KernelTask)
        other = some.columns or some.rows
        views.append(ended(part, KernelResult(tuple(tuple(value(r[0], c[0]) for c in other) for r in some.rows))))
    result = merge(whole, 1, made, views, "a")
    assert isinstance(result.data, KernelResult)
    wanted = [[value(r[0], c[0]) for c in task.columns or task.rows] for r in task.rows]
    assert [list(row) for row in result.data.values] == wanted


def test_tiles_of_a_symmetric_kernel_are_computed_on_one_side_of_the_diagonal_only() -> None:
    made = cut(submission(KernelTask(("x",), tuple((float(i),) for i in range(12))), parts=6), 1)
    assert len(made) == 6
    assert sum(part.mirrored for part in made) == 3


def test_counts_and_shots_one_by_one_are_put_together() -> None:
    whole = submission(SampleTask(memory=True), parts=2, shots=5)
    made = cut(whole, 3)
    views = [
        ended(made[0], SampleResult(memory=b"\0\1"), {"00": 1, "01": 1}),
        ended(made[1], SampleResult(memory=b"\1\1\3"), {"01": 2, "11": 1}),
    ]
    result = merge(whole, 3, made, views, "a")
    assert result.counts == {"00": 1, "01": 3, "11": 1}
    assert result.data == SampleResult(memory=b"\0\1\1\1\3")
    assert (result.shots, result.seed) == (5, 3)
    assert [(part.node, part.shots, part.seed) for part in result.parts] == [
        ("b", 2, part_seed(3, 0)),
        ("b", 3, part_seed(3, 1)),
    ]
    assert (result.metadata["parts"], result.metadata["nodes"], result.metadata["method"]) == (2, 1, "fake")


def test_the_counts_of_a_sweep_in_parts_are_those_of_its_first_point() -> None:
    whole = submission(SampleTask(sweep={"a": (1.0, 2.0, 3.0)}, memory=True), parts=2)
    made = cut(whole, 3)
    views = [
        ended(made[0], SampleResult(({"00": 10},), b"m"), {"00": 10}),
        ended(made[1], SampleResult(({"01": 10}, {"11": 10})), {"01": 10}),
    ]
    result = merge(whole, 3, made, views, "a")
    assert result.counts == {"00": 10}
    assert result.data == SampleResult(({"00": 10}, {"01": 10}, {"11": 10}), b"m")
    tasks = [part.submission.task for part in made]
    assert [task.memory for task in tasks if isinstance(task, SampleTask)] == [True, False]


def test_estimates_of_parts_are_weighted_by_shots_and_their_variances_add() -> None:
    whole = submission(ExpectationTask((Z0,), sampled=True), parts=2, shots=4)
    made = (Part(msgspec.structs.replace(whole, shots=1)), Part(msgspec.structs.replace(whole, shots=3)))
    views = [
        ended(made[0], ExpectationResult(((1.0,),), ((0.4,),))),
        ended(made[1], ExpectationResult(((0.0,),), ((0.2,),))),
    ]
    data = merge(whole, 1, made, views, "a").data
    assert isinstance(data, ExpectationResult)
    assert data.values == ((0.25,),)
    assert data.errors[0][0] == pytest.approx(math.sqrt(0.4**2 + 0.6**2) / 4)


def test_exact_values_are_cut_by_observables_and_by_points_but_never_by_shots() -> None:
    sums = tuple({f"Z{qubit}": 1.0} for qubit in range(5))
    whole = submission(ExpectationTask(sums), parts=2)
    made = cut(whole, 1)
    views = [
        ended(part, ExpectationResult((tuple(float(len(made)) for _ in part.submission.task.observables),)))  # type: ignore[union-attr]
        for part in made
    ]
    data = merge(whole, 1, made, views, "a").data
    assert data == ExpectationResult(((2.0,) * 5,))
    swept = submission(ExpectationTask((Z0,), sweep={"a": (1.0, 2.0, 3.0)}), parts=2)
    made = cut(swept, 1)
    views = [ended(made[0], ExpectationResult(((1.0,),))), ended(made[1], ExpectationResult(((2.0,), (3.0,))))]
    assert merge(swept, 1, made, views, "a").data == ExpectationResult(((1.0,), (2.0,), (3.0,)))


def test_logical_errors_add_up_and_their_interval_narrows() -> None:
    whole = submission(QecTask(), parts=2, shots=200)
    made = cut(whole, 1)
    one = QecResult(100, 10, 0.1, 0.05, 0.18, 0.03, 24, 17, 2.0, 5.0, "pymatching")
    views = [ended(made[0], one), ended(made[1], msgspec.structs.replace(one, logical_errors=30, decode_p99_us=9.0))]
    data = merge(whole, 1, made, views, "a").data
    assert isinstance(data, QecResult)
    assert (data.shots, data.logical_errors, data.error_rate, data.decode_p99_us) == (200, 40, 0.2, 9.0)
    assert 0.15 < data.low < 0.2 < data.high < 0.262


@pytest.mark.parametrize("task", [AmplitudeTask(), QaoaTask(spins=2)])
def test_what_is_one_piece_by_nature_is_refused_with_what_can_be_cut(task: Task) -> None:
    with pytest.raises(QedgeError) as error:
        cut(submission(task), 1)
    assert error.value.code == "job.cannot_split"
    assert "kernel" in error.value.fix


@pytest.mark.parametrize(
    "spoil",
    [
        lambda views: [views[0], msgspec.structs.replace(views[1], result=None)],
        lambda views: [views[0], ended(Part(submission(shots=5)), None, {"0": 5}, registers=())],
        lambda views: [views[0], ended(Part(submission(shots=5)), None, {"00": 4})],
    ],
    ids=["no result", "other bits", "too few shots"],
)
def test_results_that_do_not_fit_together_are_refused(spoil: Callable[[list[JobView]], list[JobView]]) -> None:
    whole = submission(parts=2)
    made = cut(whole, 1)
    with pytest.raises(QedgeError) as error:
        merge(whole, 1, made, spoil([ended(part, None, {"00": 5}) for part in made]), "a")
    assert error.value.code == "driver.lied"


@pytest.mark.parametrize(
    ("task", "data"),
    [
        (ExpectationTask((Z0,), sampled=True), ExpectationResult((), ())),
        (KernelTask(("x",), ((1.0,), (2.0,))), KernelResult(((1.0, 0.2, 0.3),) * 4)),
        (QecTask(), QecResult(0, 0, 0.0, 0.0, 0.0, 0.0, 1, 1, 0.0, 0.0, "d")),
    ],
    ids=["no values", "too large a tile", "no shots"],
)
def test_results_that_have_not_the_size_of_their_parts_are_refused(task: Task, data: TaskResult) -> None:
    whole = submission(task, parts=2)
    made = cut(whole, 1)
    with pytest.raises(QedgeError) as error:
        merge(whole, 1, made, [ended(part, data) for part in made], "a")
    assert error.value.code == "driver.lied"


# The service, on nodes that run each other's jobs


class SplitNode:
    """A node with forwarding and splitting."""

    def __init__(self, node: EngineNode) -> None:
        self.node = node
        self.numbers = itertools.count(9)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> SplitService:
        """Begin to cut jobs."""
        node, ready = self.node, asyncio.Event()
        self.split = SplitService(
            node.engine,
            node.store,
            node.engine.changes,
            node_name=node.name,
            clock=SystemClock(),
            metrics=Metrics(),
            random_bytes=lambda n: next(self.numbers).to_bytes(n, "big"),
        )
        node.engine.attach(Ways(node.ledger.owner, self.split))
        self._task = asyncio.create_task(self.split.run(ready.set))
        await ready.wait()
        return self.split

    async def stop(self) -> None:
        """End as a daemon that stops."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def trio(site: EngineSite) -> tuple[SplitNode, EngineNode, EngineNode]:
    """Make an origin without a QPU and two runners."""
    origin = SplitNode(await site.node("a"))
    await origin.start()
    return origin, await site.node("b", FakeQpu("b")), await site.node("c", FakeQpu("c"))


async def test_parts_run_on_all_nodes_and_come_back_as_one_job_with_their_provenance(site: EngineSite) -> None:
    origin, b, c = await trio(site)
    job = await origin.node.submit(parts=6, shots=60, seed=5)
    view = await origin.node.end(job.id)
    assert view.state is JobState.DONE
    assert view.result is not None
    assert view.result.counts == {"00": 54, "11": 6}
    assert (len(b.qpu.runs), len(c.qpu.runs)) == (3, 3)  # type: ignore[union-attr]
    assert {part.node for part in view.result.parts} == {"b", "c"}
    assert view.node == PARTS
    await origin.stop()


async def test_the_same_key_is_one_job_in_parts(site: EngineSite) -> None:
    origin, _, _ = await trio(site)
    jobs = [await origin.node.submit(parts=2, client_key="k") for _ in range(3)]
    assert len({job.id for job in jobs}) == 1
    await origin.node.end(jobs[0].id)
    assert site.runs() == 2
    await origin.stop()


async def test_a_restart_takes_the_parts_up_and_runs_none_twice(site: EngineSite) -> None:
    origin, b, c = await trio(site)
    for node in (b, c):
        node.qpu.held = True  # type: ignore[union-attr]
    job = await origin.node.submit(parts=2)
    async with asyncio.timeout(30):
        while site.runs() < 2:
            await asyncio.sleep(0.01)
    await origin.stop()
    await origin.node.kill()
    await origin.node.start()
    await origin.start()
    for node in (b, c):
        node.qpu.release.set()  # type: ignore[union-attr]
    view = await origin.node.end(job.id)
    assert view.state is JobState.DONE
    assert site.runs() == 2
    await origin.stop()


async def test_a_cancel_and_a_deadline_reach_all_parts(site: EngineSite) -> None:
    origin, b, c = await trio(site)
    for node in (b, c):
        node.qpu.held = True  # type: ignore[union-attr]
    one = await origin.node.submit(parts=2)
    other = await origin.node.submit(parts=2, deadline_s=0.3)
    assert (await origin.node.end(other.id)).state is JobState.EXPIRED
    assert (await origin.node.engine.cancel(one.id)).state is JobState.CANCELLED
    async with asyncio.timeout(30):
        while any(view.state not in (JobState.CANCELLED, JobState.EXPIRED) for view in await b.engine.jobs(9)):
            await asyncio.sleep(0.02)
    await origin.stop()


async def test_one_part_that_fails_ends_the_job_with_its_reason_and_stops_the_rest(site: EngineSite) -> None:
    origin, b, c = await trio(site)
    b.qpu.lie, c.qpu.held = True, True  # type: ignore[union-attr]
    view = await origin.node.end((await origin.node.submit(parts=2)).id)
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert view.error.code == "driver.lied"
    assert "of 2" in view.error.title
    await origin.stop()


class SlowJobs:
    """A job service that is asked to cancel."""

    def __init__(self, cancel: Callable[[str], Awaitable[JobView]]) -> None:
        self.cancel = cancel


async def begun(site: EngineSite, runs: int) -> None:
    """Wait until so many parts have begun."""
    async with asyncio.timeout(30):
        while site.runs() < runs:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("fails", [False, True], ids=["cancelled twice", "cancelled while it fails"])
async def test_a_job_whose_end_is_under_way_ends_though_it_is_cancelled_then(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    origin, b, c = await trio(site)
    b.qpu.held = c.qpu.held = True  # type: ignore[union-attr]
    job = await origin.node.submit(parts=2)
    await begun(site, 2)
    stop, stopping = origin.split._stop_parts, asyncio.Event()

    async def slowly(split: Split) -> None:
        stopping.set()
        await asyncio.sleep(0.2)
        await stop(split)

    monkeypatch.setattr(origin.split, "_stop_parts", slowly)
    if fails:
        b.qpu.lie = True  # type: ignore[union-attr]
        b.qpu.release.set()  # type: ignore[union-attr]
    else:
        first = asyncio.create_task(origin.node.engine.cancel(job.id))
    await stopping.wait()
    await origin.split.cancel(job.id)
    if not fails:
        await first
    view = await origin.node.end(job.id, 5.0)
    assert view.state is (JobState.FAILED if fails else JobState.CANCELLED)
    await origin.stop()


async def test_a_job_whose_parts_cannot_be_put_together_for_no_known_reason_ends_alone(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, _, _ = await trio(site)
    group = origin.split._group

    def broken(*_: object) -> JobResult:
        raise IndexError("nobody thought of that")

    monkeypatch.setattr("qedge.orchestrator.splitting.service.merge", broken)
    view = await origin.node.end((await origin.node.submit(parts=2)).id, 5.0)
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert view.error.code == "internal.unexpected"
    monkeypatch.undo()
    assert (await origin.node.end((await origin.node.submit(parts=2)).id)).state is JobState.DONE
    assert origin.split._group is group
    await origin.stop()


async def test_parts_that_take_their_time_to_stop_do_so_side_by_side(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, b, c = await trio(site)
    b.qpu.held = c.qpu.held = True  # type: ignore[union-attr]
    job = await origin.node.submit(parts=4)
    async with asyncio.timeout(30):
        while not all(origin.split._splits[job.id].ids):
            await asyncio.sleep(0.01)
    waiting, together = set[str](), asyncio.Event()

    async def slowly(job_id: str) -> JobView:
        waiting.add(job_id)
        if len(waiting) == 4:
            together.set()
        await together.wait()
        raise QedgeError("job.already_ended", "It has ended.")

    split = origin.split._splits[job.id]
    monkeypatch.setattr(origin.split, "_jobs", SlowJobs(slowly))
    async with asyncio.timeout(5):
        await origin.split._stop_parts(split)
    monkeypatch.undo()
    await origin.stop()


async def test_a_part_of_which_it_is_not_clear_yet_which_job_it_is_is_asked_for_again(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, _, _ = await trio(site)
    submit, refusals = origin.node.engine.submit, [unclear(), QedgeError("store.unavailable", "It is busy.")]

    async def unclear_first(submission: JobSubmission, client: str) -> JobView:
        if submission.client_key and refusals:
            raise refusals.pop()
        return await submit(submission, client)

    monkeypatch.setattr(origin.split._jobs, "submit", unclear_first)
    assert (await origin.node.end((await origin.node.submit(parts=2)).id)).state is JobState.DONE
    await origin.stop()


async def test_there_are_not_more_jobs_in_parts_than_may_wait_and_a_key_is_answered_all_the_same(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.orchestrator.splitting.service._MOST_SPLITS", 2)
    origin, b, c = await trio(site)
    b.qpu.held = c.qpu.held = True  # type: ignore[union-attr]
    job = await origin.node.submit(parts=2, client_key="k")
    await origin.node.submit(parts=2)
    with pytest.raises(QedgeError) as error:
        await origin.node.submit(parts=2)
    assert error.value.code == "job.queue_full"
    assert (await origin.node.submit(parts=2, client_key="k")).id == job.id
    await origin.stop()


async def test_a_job_that_comes_as_the_service_ends_is_told_so(site: EngineSite) -> None:
    origin, _, _ = await trio(site)
    write, ending = origin.node.store.write, asyncio.Event()

    async def slowly(work: Callable[..., object], **how: bool) -> object:
        found = await write(work, **how)
        await ending.wait()
        return found

    origin.split._store.write = slowly  # type: ignore[method-assign] # a disk that takes its time
    asked = asyncio.create_task(origin.split.submit(submission(parts=2), "me"))
    await asyncio.sleep(0.05)
    await origin.stop()
    ending.set()
    with pytest.raises(QedgeError) as error:
        await asked
    assert error.value.code == "internal.stopping"


async def test_a_job_for_one_node_is_not_cut(site: EngineSite) -> None:
    origin, _, _ = await trio(site)
    with pytest.raises(QedgeError) as error:
        await origin.node.submit(parts=2, node="b")
    assert error.value.code == "job.cannot_split"
    await origin.stop()
