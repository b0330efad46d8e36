"""What any true result satisfies, whatever the quantum computer did: cheap to check, so checked always. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from qedge.engine.qec.rates import wilson_interval
from qedge.wire.jobs import JobResult, JobSubmission
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
)

_TOLERANCE: Final = 1e-3
"""States are kept in single precision by some simulators; sums of a million terms lose more."""
_MEMORY_SHOTS: Final = 100_000


def implausible(submission: JobSubmission, result: JobResult) -> str:
    """Say why this cannot be the result of that job; an empty string where nothing speaks against it."""
    task = submission.task
    if result.shots != submission.shots:
        return f"it has {result.shots} shots instead of {submission.shots}"
    if submission.seed is not None and result.seed != submission.seed:
        return "it was made with another seed"
    if task is None or isinstance(task, SampleTask):
        return _sample(SampleTask() if task is None else task, result)
    if isinstance(task, ExpectationTask):
        return _expectation(task, result.data)
    if isinstance(task, KernelTask):
        return _kernel(task, result.data)
    if isinstance(task, AmplitudeTask):
        return _amplitudes(task, result.data)
    if isinstance(task, QaoaTask):
        return _qaoa(task, result.data)
    return _qec(task, result.shots, result.data)


def _sample(task: SampleTask, result: JobResult) -> str:
    width = len(task.bits) or sum(register.size for register in result.registers)
    why = _counts(result.counts, result.shots, width)
    data = result.data
    if why or (data is None and not (task.sweep or task.memory)):
        return why
    if not isinstance(data, SampleResult):
        return _OTHER_KIND
    if task.sweep:
        if len(data.points) != _points(task.sweep):
            return f"it has {len(data.points)} points"
        why = next((why for point in data.points if (why := _counts(point, result.shots, width))), "")
        if why or data.points[0] != result.counts:
            return why or "its counts are not those of the first point"
    return _memory(data.memory, result.counts, width) if task.memory and result.shots <= _MEMORY_SHOTS else ""


_OTHER_KIND: Final = "it is of another kind"


def _counts(counts: Mapping[str, int], shots: int, width: int) -> str:
    if sum(counts.values()) != shots or min(counts.values(), default=1) < 1:
        return "its counts are not its shots"
    digits = "".join(counts)  # looked at as one, since there may be a thousand and this stands on the way of each job
    if set(map(len, counts)) - {width} or digits.count("0") + digits.count("1") != len(digits):
        return "its outcomes have not the bits of the program"
    return ""


def _memory(memory: bytes, counts: Mapping[str, int], width: int) -> str:
    size = max(1, -(-width // 8))
    shots = [int.from_bytes(memory[at : at + size], "little") for at in range(0, len(memory), size)]
    if Counter(format(shot, f"0{width}b") for shot in shots) != counts:
        return "its shots one by one are not its counts"
    return ""


def _points(sweep: Mapping[str, Sequence[float]]) -> int:
    return max((len(column) for column in sweep.values()), default=1)


def _expectation(task: ExpectationTask, data: object) -> str:
    if not isinstance(data, ExpectationResult):
        return _OTHER_KIND
    rows, columns = _points(task.sweep), len(task.observables)
    for table in (data.values, data.errors) if data.errors else (data.values,):
        if len(table) != rows or any(len(row) != columns for row in table):
            return "it has not one value for each observable and point"
    most = [sum(abs(factor) for factor in observable.values()) * (1 + _TOLERANCE) for observable in task.observables]
    if not all(abs(value) <= bound for row in data.values for value, bound in zip(row, most, strict=True)):
        return "a value is larger than its observable can be"
    return "" if all(error >= 0 for row in data.errors for error in row) else "an error is negative"


def _kernel(task: KernelTask, data: object) -> str:
    if not isinstance(data, KernelResult):
        return _OTHER_KIND
    matrix, width = data.values, len(task.columns or task.rows)
    if len(matrix) != len(task.rows) or any(len(row) != width for row in matrix):
        return "it has another size"
    if not all(-_TOLERANCE <= value <= 1 + _TOLERANCE for row in matrix for value in row):
        return "a value is no probability"
    if task.columns:
        return ""
    if any(abs(row[at] - 1) > _TOLERANCE for at, row in enumerate(matrix)):
        return "a state is not equal to itself"
    uneven = any(abs(matrix[i][j] - matrix[j][i]) > _TOLERANCE for i in range(width) for j in range(i))
    return "it is not symmetric" if uneven else ""


def _amplitudes(task: AmplitudeTask, data: object) -> str:
    if not isinstance(data, AmplitudeResult):
        return _OTHER_KIND
    if len(data.real) != len(data.imag) or (task.states and len(data.real) != len(task.states)):
        return "it has not one amplitude for each state"
    chances = [re * re + im * im for re, im in zip(data.real, data.imag, strict=True)]
    if not all(chance <= 1 + _TOLERANCE for chance in chances):  # nor is what is no number
        return "a probability is more than 1"
    total, whole = math.fsum(chances), not task.states
    if total > 1 + _TOLERANCE and (whole or len(set(task.states)) == len(task.states)):
        return "its probabilities are more than 1"
    return "its probabilities do not add up to 1" if whole and total < 1 - _TOLERANCE else ""


def qaoa_cost(task: QaoaTask, bits: str) -> float:
    """Return the cost of an answer, whose bit 1 is z = −1 and whose bit 0 stands rightmost."""
    z = [-1 if bit == "1" else 1 for bit in reversed(bits)]
    pairs = math.fsum(factor * z[i] * z[j] for i, j, factor in task.couplings)
    return task.offset + pairs + math.fsum(factor * z[i] for i, factor in enumerate(task.fields))


def _qaoa(task: QaoaTask, data: object) -> str:
    if not isinstance(data, QaoaResult):
        return _OTHER_KIND
    for bits, cost in ((data.best_bits, data.best_cost), (data.optimum_bits, data.optimum)):
        if len(bits) != task.spins or bits.strip("01"):
            return "its answer has not one bit for each spin"
        try:
            true = qaoa_cost(task, bits)
        except (ArithmeticError, ValueError, IndexError):
            continue  # numbers of the client's that no runner can add
        if math.isfinite(true) and not math.isclose(true, cost, rel_tol=1e-6, abs_tol=1e-6):
            return "its answer has another cost than it says"
    slack = _TOLERANCE * (1 + abs(data.optimum))
    if data.optimum_exact and min(data.energy, data.best_cost) < data.optimum - slack:
        return "it is better than the optimum"
    return ""


def _qec(task: QecTask, shots: int, data: object) -> str:
    if not isinstance(data, QecResult):
        return _OTHER_KIND
    if data.shots != shots or not 0 <= data.logical_errors <= shots:
        return "its shots do not add up"
    told = (data.error_rate, data.low, data.high)
    true = (data.logical_errors / shots, *wilson_interval(data.logical_errors, shots))
    if not all(math.isclose(one, other, abs_tol=1e-9) for one, other in zip(told, true, strict=True)):
        return "its rate is not that of its counts"
    return "" if data.detectors > 0 and task.distance <= data.qubits else "it is another experiment"
