"""Results of other nodes: what cannot be true is seen at once, what is false is found by second runs, and it costs."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.engine import ledger
from qedge.engine.changes import Changes
from qedge.engine.ledger_row import new_job
from qedge.engine.ports import PeerNode
from qedge.engine.qec.rates import wilson_interval
from qedge.orchestrator.ledger.errand import NO_ESTIMATE
from qedge.orchestrator.results.comparing import Likeness, compare
from qedge.orchestrator.results.config import ResultsConfig
from qedge.orchestrator.results.service import CLIENT, SpotChecks, Surroundings
from qedge.orchestrator.results.standing import KNOWN_AFTER, NEW_SHARE, confirmed, convicted, pardoned, share
from qedge.orchestrator.results.witness import implausible
from qedge.store.store import Store
from qedge.wire.jobs import JobResult, JobState, JobSubmission, JobView, Register
from qedge.wire.standing import Standing
from qedge.wire.tasks import (
    AmplitudeResult,
    AmplitudeTask,
    ExpectationResult,
    ExpectationTask,
    KernelResult,
    KernelTask,
    QaoaResult,
    QaoaTask,
    QecResult,
    QecTask,
    SampleResult,
    SampleTask,
    Task,
    TaskResult,
)

C2 = (Register("c", 2, 0),)
IDEAL: dict[str, str | int | float | bool] = {"method": "fake", "simulated": True, "driver": "fake"}


def result(
    counts: dict[str, int] | None = None, data: TaskResult | None = None, *, shots: int = 10, seed: int = 1
) -> JobResult:
    """Make a result of a program with two bits."""
    return JobResult(counts or {}, shots, seed, C2, {"run": 0.1}, IDEAL, data=data)


def job(task: Task | None = None, shots: int = 10) -> JobSubmission:
    """Make the job that it belongs to."""
    return JobSubmission(program="p", shots=shots, task=task)


SPINS = QaoaTask(spins=2, couplings=((0, 1, 1.0),), offset=0.5)
QAOA = QaoaResult(-0.3, (0.1,), (0.1,), "01", -0.5, -0.5, "10", True, 0.5, "exact", 10)
QEC = QecResult(10, 1, 0.1, *wilson_interval(1, 10), 0.03, 24, 17, 1.0, 2.0, "pymatching")
TRUE: list[tuple[Task | None, JobResult]] = [
    (None, result({"00": 4, "11": 6})),
    (SampleTask(bits=(1,)), result({"0": 4, "1": 6})),
    (SampleTask(memory=True), result({"00": 8, "11": 2}, SampleResult(memory=b"\0" * 8 + b"\3\3"))),
    (SampleTask(sweep={"a": (1.0, 2.0)}), result({"00": 10}, SampleResult(({"00": 10}, {"01": 10})))),
    (ExpectationTask(({"Z0": 1.0, "Z1": -2.0},)), result(None, ExpectationResult(((2.9,),)))),
    (KernelTask(("x",), ((1.0,), (2.0,))), result(None, KernelResult(((1.0, 0.25), (0.25, 1.0))))),
    (KernelTask(("x",), ((1.0,),), ((2.0,), (3.0,))), result(None, KernelResult(((0.1, 0.25),)))),
    (AmplitudeTask(), result(None, AmplitudeResult((0.6, 0.0), (0.0, 0.8)))),
    (AmplitudeTask(("00",)), result(None, AmplitudeResult((0.6,), (0.0,)))),
    (SPINS, result({"01": 10}, QAOA)),
    (QecTask(), result(None, QEC)),
]


@pytest.mark.parametrize(("task", "true"), TRUE)
def test_true_results_are_plausible(task: Task | None, true: JobResult) -> None:
    assert implausible(job(task), true) == ""


FALSE: list[tuple[Task | None, JobResult, str]] = [
    (None, result({"00": 4, "11": 5}), "shots"),
    (None, result({"00": 11, "11": -1}), "shots"),
    (None, result({"0": 10}), "bits"),
    (None, result({"0x": 10}), "bits"),
    (None, result({"00": 9}, shots=9), "9 shots instead of 10"),
    (SampleTask(memory=True), result({"00": 8, "11": 2}, SampleResult(memory=b"\0" * 9 + b"\3")), "one by one"),
    (SampleTask(memory=True), result({"00": 10}), "kind"),
    (SampleTask(sweep={"a": (1.0, 2.0)}), result({"00": 10}, SampleResult(({"00": 10},))), "points"),
    (SampleTask(sweep={"a": (1.0,)}), result({"00": 10}, SampleResult(({"01": 10},))), "first point"),
    (ExpectationTask(({"Z0": 1.0},)), result(None, ExpectationResult(((1.1,),))), "larger"),
    (ExpectationTask(({"Z0": 1.0},)), result(None, ExpectationResult(((float("nan"),),))), "larger"),
    (ExpectationTask(({"Z0": 1.0},)), result(None, ExpectationResult(((0.1, 0.2),))), "one value"),
    (ExpectationTask(({"Z0": 1.0},)), result(None, KernelResult(((1.0,),))), "kind"),
    (KernelTask(("x",), ((1.0,), (2.0,))), result(None, KernelResult(((1.0, 0.2), (0.3, 1.0)))), "symmetric"),
    (KernelTask(("x",), ((1.0,), (2.0,))), result(None, KernelResult(((0.9, 0.2), (0.2, 1.0)))), "itself"),
    (KernelTask(("x",), ((1.0,),)), result(None, KernelResult(((1.5,),))), "probability"),
    (AmplitudeTask(), result(None, AmplitudeResult((0.6, 0.0), (0.0, 0.7))), "add up"),
    (AmplitudeTask(("00", "01")), result(None, AmplitudeResult((1.0, 0.5), (0.0, 0.0))), "more than 1"),
    (AmplitudeTask(("00", "00")), result(None, AmplitudeResult((1.2, 1.2), (0.0, 0.0))), "more than 1"),
    (AmplitudeTask(("00", "00")), result(None, AmplitudeResult((1e154, 1e154), (1e154, 1e154))), "more than 1"),
    (AmplitudeTask(("00", "01")), result(None, AmplitudeResult((float("nan"), 0.5), (0.0, 0.0))), "more than 1"),
    (SPINS, result(None, msgspec.structs.replace(QAOA, best_cost=-0.6)), "another cost"),
    (SPINS, result(None, msgspec.structs.replace(QAOA, energy=-0.8)), "better than the optimum"),
    (QecTask(), result(None, msgspec.structs.replace(QEC, logical_errors=2)), "rate"),
    (QecTask(), result(None, msgspec.structs.replace(QEC, shots=20)), "add up"),
]


@pytest.mark.parametrize(("task", "false", "why"), FALSE)
def test_what_cannot_be_true_is_seen_with_the_reason(task: Task | None, false: JobResult, why: str) -> None:
    assert why in implausible(job(task), false)


def test_numbers_of_a_client_that_are_too_large_to_be_added_speak_against_no_result_and_end_nothing() -> None:
    huge = QaoaTask(3, ((0, 1, 1.7e308), (0, 2, 1.7e308), (1, 2, 1.7e308)))
    answer = msgspec.structs.replace(QAOA, best_bits="000", optimum_bits="000", best_cost=float("inf"))
    assert implausible(job(huge), result(None, answer)) == ""
    beyond = QaoaTask(2, ((0, 5, 1.0),))
    answer = msgspec.structs.replace(QAOA, best_bits="00", optimum_bits="00")
    assert implausible(job(beyond), result(None, answer)) == ""


def test_another_seed_than_the_one_asked_for_is_seen() -> None:
    asked = msgspec.structs.replace(job(), seed=5)
    assert "seed" in implausible(asked, result({"00": 10}, seed=6))


# Comparing two runs


def sampled(chances: list[float], shots: int, rng: random.Random) -> JobResult:
    """Draw counts of two bits."""
    drawn = Counter(rng.choices(["00", "01", "10", "11"], chances, k=shots))
    return result(dict(drawn), shots=shots)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(1, 300), st.integers(1, 300), st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_honest_samples_of_one_distribution_are_never_called_different(
    weights: list[float], shots: int, again: int, seed: int
) -> None:
    weights[seed % 4] += 0.01
    rng = random.Random(seed)
    one, other = sampled(weights, shots, rng), sampled(weights, again, rng)
    assert compare(one, other) is not Likeness.DIFFERENT


def test_samples_of_other_distributions_are_different() -> None:
    rng = random.Random(1)
    bell = sampled([1, 0, 0, 1], 1000, rng)
    for other in ([1, 1, 1, 1], [1, 0, 0, 3], [0, 1, 1, 0], [1, 0.1, 0.1, 1]):
        assert compare(bell, sampled(other, 1000, rng)) is Likeness.DIFFERENT


def test_wide_outcomes_of_which_none_comes_twice_are_compared_bit_by_bit() -> None:
    rng = random.Random(2)

    def wide(chance: float) -> JobResult:
        drawn = Counter("".join("1" if rng.random() < chance else "0" for _ in range(40)) for _ in range(500))
        return result(dict(drawn), shots=500)

    assert compare(wide(0.5), wide(0.5)) is Likeness.ALIKE
    assert compare(wide(0.5), wide(0.7)) is Likeness.DIFFERENT


def test_values_and_matrices_are_the_like_within_the_precision_of_simulators() -> None:
    def exact(value: float) -> JobResult:
        return result(None, ExpectationResult(((value,),)))

    def estimate(value: float, error: float) -> JobResult:
        return result(None, ExpectationResult(((value,),), ((error,),)), shots=1000)

    assert compare(exact(0.5), exact(0.50001)) is Likeness.ALIKE
    assert compare(exact(0.5), exact(0.51)) is Likeness.DIFFERENT
    assert compare(estimate(0.5, 0.03), estimate(0.6, 0.03)) is Likeness.ALIKE
    assert compare(estimate(0.5, 0.03), estimate(0.9, 0.03)) is Likeness.DIFFERENT
    assert compare(estimate(1.0, 0.0), estimate(0.99, 0.0)) is Likeness.ALIKE
    kernel = KernelResult(((1.0, 0.3), (0.3, 1.0)))
    other = KernelResult(((1.0, 0.4), (0.4, 1.0)))
    assert compare(result(None, kernel), result(None, other)) is Likeness.DIFFERENT


def test_amplitudes_are_compared_up_to_a_global_phase() -> None:
    one = result(None, AmplitudeResult((0.6, 0.0), (0.0, 0.8)))
    turned = result(None, AmplitudeResult((0.0, -0.8), (0.6, 0.0)))
    other = result(None, AmplitudeResult((0.8, 0.0), (0.0, 0.6)))
    assert compare(one, turned) is Likeness.ALIKE
    assert compare(one, other) is Likeness.DIFFERENT


def test_logical_error_rates_are_compared_by_their_counts() -> None:
    def rate(errors: int) -> JobResult:
        return result(None, msgspec.structs.replace(QEC, shots=1000, logical_errors=errors), shots=1000)

    assert compare(rate(100), rate(130)) is Likeness.ALIKE
    assert compare(rate(100), rate(230)) is Likeness.DIFFERENT


# Standing


def test_a_new_node_is_checked_often_a_known_one_seldom_and_one_that_was_caught_often_again() -> None:
    standing = Standing("b")
    assert share(standing, 0.1) == NEW_SHARE
    shares = []
    for _ in range(KNOWN_AFTER):
        standing = confirmed(standing, same=True)
        shares.append(share(standing, 0.1))
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0.1
    caught = convicted(standing, 7, "false")
    assert (caught.barred_utc_ns, caught.wrong) == (7, 1)
    again = pardoned(caught)
    assert (again.barred_utc_ns, again.why, share(again, 0.1)) == (0, "", NEW_SHARE)
    assert again.wrong == 1


# The service


class Mesh:
    """Jobs that nodes run: each gives what its seed gives, a forger now and then something else."""

    def __init__(self, store: Store, forged: float, seed: int = 1) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.forged = forged
        self.changes = Changes()
        self.views: dict[str, JobView] = {}
        self.ran: list[tuple[str, str]] = []
        self.liars = {"liar"}

    async def submit(self, submission: JobSubmission, client: str) -> JobView:
        """Run a job at once."""
        node = submission.node or "a"
        job_id = f"{len(self.ran):036d}"
        self.ran.append((node, client))
        seed = submission.seed or 0
        counts = dict(Counter(random.Random(seed).choices(["00", "11"], k=submission.shots)))
        if node in self.liars and self.rng.random() < self.forged:
            counts = dict(Counter(self.rng.choices(["00", "01", "10", "11"], k=submission.shots)))
        made = msgspec.structs.replace(result(counts, shots=submission.shots, seed=seed), parts=())
        estimate = msgspec.structs.replace(NO_ESTIMATE, time_s=0.01)
        view = JobView(
            job_id, JobState.DONE, submission.shots, 1, client, node=node, attempts=1, estimate=estimate, result=made
        )
        row = new_job(job_id, submission, client, estimate, seed, 1, 1)
        await self.store.write(lambda connection: ledger.insert(connection, row, node))
        await self.store.write(
            lambda connection: ledger.end(connection, row, JobState.DONE, 2, msgspec.msgpack.encode(made), None)
        )
        self.views[job_id] = view
        self.changes.ended(view)
        return view

    async def job(self, job_id: str) -> JobView:
        """Return a job."""
        return self.views[job_id]

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """Return it as well: it has ended."""
        return self.views[job_id]


Made = Callable[..., tuple[Mesh, SpotChecks]]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Made]:
    """Make a mesh of this node `a`, and others, with checks that run."""
    store = Store(tmp_path / "a.sqlite3", metrics=Metrics())
    tasks: list[asyncio.Task[None]] = []

    def made(
        *others: str, forged: float = 0.05, has_qpu: bool = False, seed: int = 1, **config: object
    ) -> tuple[Mesh, SpotChecks]:
        mesh = Mesh(store, forged, seed)
        around = Surroundings(
            "a",
            lambda: tuple(PeerNode(name, True, True, 1) for name in others),
            lambda: has_qpu,
            lambda: False,
            mesh.rng.random,
        )
        settings_ = ResultsConfig(**config)  # type: ignore[arg-type]
        checks = SpotChecks(settings_, mesh, store, around, clock=SystemClock(), metrics=Metrics())
        tasks.append(asyncio.create_task(checks.run(lambda: None)))
        return mesh, checks

    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    store.close()


async def give(mesh: Mesh, checks: SpotChecks, node: str, most: int) -> int:
    """Give jobs to a node until it is barred, at most so many; returns how many it got."""
    for number in range(most):
        await mesh.submit(JobSubmission(program="p", shots=200, seed=number + 1, node=node), "me")
        await asyncio.sleep(0.002)
        if node in checks.barred:
            return number + 1
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(3):
            while node not in checks.barred and sum(each.checked for each in checks.standings()) < most:
                await asyncio.sleep(0.02)
    return most


@pytest.mark.parametrize("seed", range(3))
async def test_a_node_that_forges_one_result_in_twenty_is_barred_within_200_jobs(make: Made, seed: int) -> None:
    mesh, checks = make("liar", "b", "c", seed=seed)
    await asyncio.sleep(0.05)
    await give(mesh, checks, "liar", 200)
    assert checks.barred == {"liar"}
    [standing] = [each for each in checks.standings() if each.node == "liar"]
    assert standing.wrong >= 1
    assert "agree on another result" in standing.why


async def test_honest_nodes_are_confirmed_and_never_barred(make: Made) -> None:
    mesh, checks = make("b", "c")
    await asyncio.sleep(0.05)
    assert await give(mesh, checks, "b", 60) == 60
    assert checks.barred == frozenset()
    assert checks.standings()[0].clean >= 40
    assert {client for _, client in mesh.ran} == {"me", CLIENT}


async def test_a_checker_that_lies_is_found_by_the_third_and_the_accused_is_not_barred(make: Made) -> None:
    mesh, checks = make("b", "c", "liar", forged=1.0, check_share=1.0)
    await asyncio.sleep(0.05)
    for number in range(40):
        await mesh.submit(JobSubmission(program="p", shots=200, seed=number + 1, node="b"), "me")
        await asyncio.sleep(0.01)
        if checks.barred:
            break
    assert checks.barred == {"liar"}


async def test_where_nobody_else_is_there_this_node_believes_its_own_qpu(make: Made) -> None:
    mesh, checks = make("liar", forged=1.0, has_qpu=True, check_share=1.0)
    await asyncio.sleep(0.05)
    await give(mesh, checks, "liar", 5)
    assert checks.barred == {"liar"}


async def test_two_that_differ_with_nobody_to_decide_are_reported_and_neither_is_barred(make: Made) -> None:
    mesh, checks = make("liar", "b", forged=1.0, check_share=1.0)
    await asyncio.sleep(0.05)
    await give(mesh, checks, "liar", 3)
    assert checks.barred == frozenset()
    assert (checks.standings()[0].checked, checks.standings()[0].clean) == (3, 0)


async def test_a_verdict_outlives_the_daemon_until_an_operator_pardons(make: Made) -> None:
    mesh, checks = make("b")
    await asyncio.sleep(0.05)
    checks.convict("b", "0" * 36, "it cannot be true")
    async with asyncio.timeout(30):
        while not await mesh.store.read(lambda connection: connection.execute("SELECT node FROM standings").fetchall()):
            await asyncio.sleep(0.05)
    _, later = make("b")
    async with asyncio.timeout(30):
        while not later.barred:
            await asyncio.sleep(0.02)
    assert later.standings()[0].why == "it cannot be true"
    assert later.pardon("b").barred_utc_ns == 0
    assert later.barred == frozenset()
    with pytest.raises(QedgeError) as error:
        later.pardon("nobody")
    assert error.value.code == "job.no_node"


async def test_a_verdict_that_the_disk_had_no_room_for_is_written_down_when_there_is_some(
    make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh, checks = make("b")
    await asyncio.sleep(0.05)
    write, failed = mesh.store.write, asyncio.Event()

    async def full(*_: object, **__: object) -> None:
        failed.set()
        raise QedgeError("store.disk_full", "There is no room on the disk.")

    monkeypatch.setattr("qedge.orchestrator.results.service._SAVE_S", 0.25)
    monkeypatch.setattr(mesh.store, "write", full)
    checks.convict("b", "0" * 36, "it cannot be true")
    await failed.wait()
    monkeypatch.setattr(mesh.store, "write", write)
    async with asyncio.timeout(5):
        while not await mesh.store.read(lambda connection: connection.execute("SELECT node FROM standings").fetchall()):
            await asyncio.sleep(0.05)


async def test_a_verdict_right_before_the_end_of_the_daemon_is_written_down(tmp_path: Path) -> None:
    store = Store(tmp_path / "z.sqlite3", metrics=Metrics())
    mesh = Mesh(store, 0.0)
    around = Surroundings("a", tuple, lambda: False, lambda: False, mesh.rng.random)
    checks = SpotChecks(ResultsConfig(), mesh, store, around, clock=SystemClock(), metrics=Metrics())
    task = asyncio.create_task(checks.run(lambda: None))
    await asyncio.sleep(0.05)
    checks.convict("b", "0" * 36, "it cannot be true")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await store.read(lambda connection: connection.execute("SELECT node FROM standings").fetchall()) == [("b",)]
    store.close()
