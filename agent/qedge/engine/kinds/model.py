"""What a kind of task is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from qedge.base.errors import QedgeError
from qedge.engine.believing import check_estimate
from qedge.engine.qasm.model import Program
from qedge.engine.qasm.template import Template
from qedge.wire.jobs import Register
from qedge.wire.tasks import Sweep, Task, TaskResult
from qedge_driver_api import ProgramError, PropertyValue, QpuDriver, QpuEstimate, QpuResult, QpuTask

T = TypeVar("T")

_CODES: Final = {
    "too_many_qubits": "circuit.too_many_qubits",
    "too_entangled": "circuit.too_entangled",
    "too_many_ops": "circuit.too_many_ops",
    "unsupported": "circuit.unsupported",
    "too_many_shots": "job.too_many_shots",
    "too_much_memory": "job.too_much_memory",
    "bad_option": "job.bad_option",
}
"""What drivers call it, and what it is called everywhere else."""
K = TypeVar("K", bound=Task, contravariant=True)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a task will cost: bytes, seconds, and the size of its result; `method` says how it will run."""

    qubits: int
    clbits: int
    operations: int
    memory_bytes: int
    time_s: float
    result_bytes: int
    method: str
    registers: tuple[Register, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task gave: counts as (value, times) or None, and what its kind gives beside or instead."""

    counts: Mapping[int, int] | None
    clbits: int
    registers: tuple[Register, ...]
    data: TaskResult | None
    metadata: Mapping[str, PropertyValue]


@dataclass(slots=True)
class Bench:
    """A QPU, a program and how to run it. `template` is None for tasks that need no program."""

    qpu: QpuDriver
    execute: Callable[[QpuTask], QpuResult]
    fit: Callable[[QpuTask], QpuTask]
    cancelled: Callable[[], bool]
    template: Template | None
    fixed: Program | None
    parameters: Mapping[str, float]
    measure_all: bool
    shots: int
    seed: int
    options: Mapping[str, PropertyValue] = field(default_factory=dict)

    def program(self, values: Mapping[str, float] | None = None, *, counted: bool = True) -> Program:
        """Return the program with its parameters, overridden by `values`; `counted`: with its measurements required."""
        if self.template is None:
            raise QedgeError(
                "job.bad_request", "This kind of task needs a program.", fix="Send a program or a template."
            )
        if self.fixed is not None and counted and not values and not self.parameters:
            return self.fixed
        merged = {**self.parameters, **values} if values else self.parameters
        return self.template.bind(merged, measure_all=self.measure_all, counted=counted)

    def stop_if_unwanted(self) -> None:
        """Raise `job.cancelled` where the task is not wanted any more."""
        if self.cancelled():
            raise QedgeError("job.cancelled", "The job was cancelled.")

    def task(self, program: Program, *, shots: int = 0, seed: int | None = None) -> QpuTask:
        """Make the QPU's task of a program."""
        return QpuTask(program.circuit, shots or self.shots, self.seed if seed is None else seed, self.options)

    def estimate(self, task: QpuTask) -> QpuEstimate:
        """Ask the QPU what a task costs."""
        fitted = self.fit(task)
        return check_estimate(program_errors(lambda: self.qpu.estimate(fitted)))


class Kind(Protocol[K]):
    """One kind of task."""

    def forecast(self, bench: Bench, task: K) -> Forecast:
        """Predict the cost; raises the error with which the task would be refused."""
        ...

    def perform(self, bench: Bench, task: K) -> Outcome:
        """Do it."""
        ...


def points_of(sweep: Sweep) -> list[dict[str, float]]:
    """Return the points of a sweep, one empty point for none; raises `job.bad_sweep`."""
    sizes = {len(column) for column in sweep.values()}
    if len(sizes) > 1:
        raise QedgeError(
            "job.bad_sweep",
            f"The inputs of the sweep have different numbers of values: {sorted(sizes)[:8]}.",
            fix="Give each input one value per point.",
        )
    if not sizes:
        return [{}]
    return [dict(zip(sweep, row, strict=True)) for row in zip(*sweep.values(), strict=True)]


def point_seeds(seed: int, points: Sequence[object]) -> Iterator[int]:
    """Give every point a seed of its own; the first has that of the job."""
    return ((seed + 0x9E3779B9 * number) % (1 << 32) for number in range(len(points)))


def program_errors(run: Callable[[], T]) -> T:
    """Give a driver's refusal of a program the node's code for it."""
    try:
        return run()
    except ProgramError as error:
        code = _CODES.get(error.code, "circuit.unsupported")
        raise QedgeError(code, f"The QPU refused: {error}.", reason=error.code) from error
    except MemoryError as error:
        raise QedgeError("job.too_much_memory", "The job needs more memory than this worker may take.") from error
