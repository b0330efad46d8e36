"""The result of a job from the results of its parts. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.engine.qec.rates import per_round, wilson_interval
from qedge.orchestrator.splitting.cutting import Part
from qedge.wire.jobs import JobResult, JobSubmission, JobView, PartResult
from qedge.wire.tasks import (
    ExpectationResult,
    ExpectationTask,
    KernelResult,
    KernelTask,
    QecResult,
    QecTask,
    SampleResult,
    TaskResult,
)

R = TypeVar("R", bound=msgspec.Struct)


def merge(
    submission: JobSubmission, seed: int, parts: Sequence[Part], views: Sequence[JobView], node: str
) -> JobResult:
    """Put the results of `parts` together; `node` is the name of this node, for parts that ran here.

    Times are those of the slowest part per stage. Raises `driver.lied` where results do not fit together: QPUs that
    answer differently to one program have not all run it.
    """
    results = [_result(view) for view in views]
    first = results[0]
    if any(each.registers != first.registers for each in results):
        raise _unequal("their bits differ")
    try:
        counts, data = _merged(submission, parts, results)
    except (IndexError, ValueError, ArithmeticError):
        raise _unequal("one has not the size of its part") from None
    if counts and sum(counts.values()) != submission.shots:
        raise _unequal("their shots do not add up")
    methods = {str(each.metadata.get("method", "")) for each in results}
    metadata: dict[str, str | int | float | bool] = {
        **{name: value for name, value in first.metadata.items() if all(_same(name, value, each) for each in results)},
        "parts": len(parts),
        "nodes": len({view.node or node for view in views}),
        "method": methods.pop() if len(methods) == 1 else "several",
    }
    return JobResult(
        counts=counts,
        shots=submission.shots,
        seed=seed,
        registers=first.registers,
        timings_s={name: max(each.timings_s.get(name, 0.0) for each in results) for name in first.timings_s},
        metadata=metadata,
        data=data,
        parts=tuple(_provenance(view, result, node) for view, result in zip(views, results, strict=True)),
    )


def _provenance(view: JobView, result: JobResult, node: str) -> PartResult:
    return PartResult(
        job=view.id,
        node=view.node or node,
        qpu=view.qpu,
        shots=result.shots,
        seed=result.seed,
        run_s=result.timings_s.get("run", 0.0),
        attempts=view.attempts,
    )


def _same(name: str, value: object, result: JobResult) -> bool:
    return result.metadata.get(name) == value


def _merged(
    submission: JobSubmission, parts: Sequence[Part], results: Sequence[JobResult]
) -> tuple[dict[str, int], TaskResult | None]:
    task = submission.task
    if isinstance(task, KernelTask):
        return {}, _kernel(task, parts, _data(results, KernelResult))
    if isinstance(task, QecTask):
        return {}, _qec(task, _data(results, QecResult))
    if isinstance(task, ExpectationTask):
        return {}, _expectation(task, [each.shots for each in results], _data(results, ExpectationResult))
    return _sample(results)


def _sample(results: Sequence[JobResult]) -> tuple[dict[str, int], TaskResult | None]:
    kept = [each.data for each in results if isinstance(each.data, SampleResult)]
    points = tuple(point for each in kept for point in each.points)
    memory = b"".join(each.memory for each in kept)
    if points:
        return dict(results[0].counts), SampleResult(points, memory)
    total: Counter[str] = Counter()
    for each in results:
        total.update(each.counts)
    return dict(total), SampleResult(memory=memory) if memory else None


def _expectation(
    task: ExpectationTask, shots: Sequence[int], results: Sequence[ExpectationResult]
) -> ExpectationResult:
    if any(len(column) > 1 for column in task.sweep.values()):
        values = tuple(row for each in results for row in each.values)
        errors = tuple(row for each in results for row in each.errors)
    elif not task.sampled:
        values = (tuple(value for each in results for value in each.values[0]),)
        errors = (tuple(error for each in results for error in each.errors[0]),) if results[0].errors else ()
    else:
        values = (_mean(shots, [each.values[0] for each in results]),)
        errors = (_mean_error(shots, [each.errors[0] for each in results]),)
    if errors and len(errors) != len(values):
        raise _unequal("some values are exact and others are not")
    return ExpectationResult(values, errors)


def _mean(shots: Sequence[int], rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the means of estimates, each weighted by its shots."""
    total = sum(shots)
    return tuple(
        sum(n * value for n, value in zip(shots, column, strict=True)) / total for column in zip(*rows, strict=True)
    )


def _mean_error(shots: Sequence[int], rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the standard errors of such means: parts are independent, so that variances add."""
    total = sum(shots)
    return tuple(
        math.sqrt(sum((n * error) ** 2 for n, error in zip(shots, column, strict=True))) / total
        for column in zip(*rows, strict=True)
    )


def _kernel(task: KernelTask, parts: Sequence[Part], results: Sequence[KernelResult]) -> KernelResult:
    width = len(task.columns or task.rows)
    matrix = [[0.0] * width for _ in task.rows]
    for part, each in zip(parts, results, strict=True):
        for down, row in enumerate(each.values, part.row):
            matrix[down][part.column : part.column + len(row)] = row
            if part.mirrored:
                for across, value in enumerate(row, part.column):
                    matrix[across][down] = value
    return KernelResult(tuple(tuple(row) for row in matrix))


def _qec(task: QecTask, results: Sequence[QecResult]) -> QecResult:
    """Add errors and shots; of the decoders' times the longest stand."""
    first = results[0]
    shots, errors = sum(each.shots for each in results), sum(each.logical_errors for each in results)
    low, high = wilson_interval(errors, shots)
    return QecResult(
        shots=shots,
        logical_errors=errors,
        error_rate=errors / shots,
        low=low,
        high=high,
        error_rate_per_round=per_round(errors / shots, task.rounds),
        detectors=first.detectors,
        qubits=first.qubits,
        decode_p50_us=max(each.decode_p50_us for each in results),
        decode_p99_us=max(each.decode_p99_us for each in results),
        decoder=first.decoder,
    )


def _result(view: JobView) -> JobResult:
    if view.result is None:
        raise _unequal("one has no result")
    return view.result


def _data(results: Sequence[JobResult], kind: type[R]) -> list[R]:
    every: list[object] = [each.data for each in results]
    data = [each for each in every if isinstance(each, kind)]
    if len(data) != len(results):
        raise _unequal("they are not of one kind")
    return data


def _unequal(why: str) -> QedgeError:
    return QedgeError(
        "driver.lied",
        f"The parts of the job do not fit together: {why}.",
        fix="Compare the QPUs that ran them: `qedge jobs list` names the parts.",
    )
