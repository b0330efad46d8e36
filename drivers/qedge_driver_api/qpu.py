"""QPU drivers, shaped after QDMI (device, site and operation properties; jobs with a life cycle)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from qedge_driver_api.circuit import FlatCircuit
from qedge_driver_api.driver import Driver, Property, PropertyValue


class DeviceStatus(StrEnum):
    """QDMI device status."""

    OFFLINE = "offline"
    IDLE = "idle"
    BUSY = "busy"
    ERROR = "error"
    MAINTENANCE = "maintenance"
    CALIBRATION = "calibration"


class JobStatus(StrEnum):
    """QDMI job status; the last three are final."""

    CREATED = "created"
    SUBMITTED = "submitted"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class ProgramFormat(StrEnum):
    """Forms of programs: every QPU driver takes `FLAT`, and tasks hold nothing else.

    The others say what the device behind a driver reads itself (QDMI program formats, text and binary forms of QIR as
    one).
    """

    FLAT = "flat"
    QASM2 = "qasm2"
    QASM3 = "qasm3"
    QIR_BASE = "qir_base"
    QIR_ADAPTIVE = "qir_adaptive"


@dataclass(frozen=True, slots=True)
class SiteProperties:
    """One qubit: `t1_us`, `t2_us` in microseconds (0: unknown or none), `readout_error` as a probability.

    `name` is the maker's own, where there is one.
    """

    index: int
    t1_us: float = 0.0
    t2_us: float = 0.0
    readout_error: float = 0.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class OperationAt:
    """What an operation is like on certain qubits, in the order in which it takes them; units as for the operation."""

    qubits: tuple[int, ...]
    duration_us: float = 0.0
    fidelity: float = 1.0


@dataclass(frozen=True, slots=True)
class OperationProperties:
    """One kind of operation, on `num_qubits` (0: any number).

    `fidelity` is the average gate fidelity (1.0: ideal, 0.0: unknown), `duration_us` is in microseconds (0: unknown).
    `at` holds the values of single places where they differ; it need not name every place, and what it does not name
    has the general values.
    """

    name: str
    num_qubits: int
    duration_us: float = 0.0
    fidelity: float = 1.0
    num_parameters: int = 0
    at: tuple[OperationAt, ...] = ()


@dataclass(frozen=True, slots=True)
class QpuProperties:
    """The device. `coupling` lists allowed pairs; empty means all-to-all. `queue_length` counts waiting jobs.

    `calibrated_at_s`: when the values of sites and operations were measured, seconds since 1970 UTC (0: unknown).
    """

    name: str
    num_qubits: int
    status: DeviceStatus
    formats: tuple[ProgramFormat, ...] = (ProgramFormat.FLAT,)
    sites: tuple[SiteProperties, ...] = ()
    operations: tuple[OperationProperties, ...] = ()
    coupling: tuple[tuple[int, int], ...] = ()
    queue_length: int = 0
    max_shots: int = 1_000_000
    calibrated_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class QpuEstimate:
    """What a task will cost: peak memory in bytes beyond the idle process, time in seconds, and the method chosen."""

    memory_bytes: int
    time_s: float
    method: str


@dataclass(frozen=True, slots=True)
class QpuTask:
    """One program to run `shots` ≥ 1 times. The same `seed` gives the same counts on a simulator.

    `options` that a simulator may know: `method`, `max_bond`, `min_fidelity`; a device without them ignores them.
    """

    circuit: FlatCircuit
    shots: int
    seed: int
    options: Mapping[str, PropertyValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QpuResult:
    """`counts`: classical value (bit 0 least significant) → how often; the counts sum to `shots`.

    A simulator that has them as bytes gives `PackedCounts`, which saves the node the way through single numbers.

    `metadata` says how: at least `method`; timings as `*_s`.
    """

    counts: Mapping[int, int]
    shots: int
    metadata: Mapping[str, PropertyValue]


@runtime_checkable
class QpuDriver(Driver, Protocol):
    """A device that runs circuits. `submit` returns a job id of the driver's own; final states stay until `free`."""

    def qpu_properties(self) -> QpuProperties:
        """Describe the open device."""
        ...

    def estimate(self, task: QpuTask) -> QpuEstimate:
        """Predict the cost of a task without running it; raises `ProgramError` where it cannot run at all."""
        ...

    def submit(self, task: QpuTask) -> str:
        """Start a job; a simulator may finish it before it returns. Raises `ProgramError` where it cannot run."""
        ...

    def wait(self, job_id: str, timeout_s: float) -> JobStatus:
        """Wait at most `timeout_s` ≥ 0 seconds for a final status and return the status reached."""
        ...

    def result(self, job_id: str) -> QpuResult:
        """Return the result of a job that is `DONE`; raises `DriverError` of the job where it is not."""
        ...

    def cancel(self, job_id: str) -> None:
        """Ask for the end of a job; unknown and ended jobs are ignored."""
        ...

    def free(self, job_id: str) -> None:
        """Forget a job and its result; unknown ids are ignored."""
        ...


Pauli = tuple[tuple[int, str], ...]
"""A product of Pauli operators: `(qubit, "X" | "Y" | "Z")` each, every qubit at most once; empty is the identity."""
PauliSum = tuple[tuple[Pauli, float], ...]
"""Products with real coefficients."""


@runtime_checkable
class StateQpu(Protocol):
    """Ability `states`: a simulator whose states can be looked at. Measurements at the end of a circuit are ignored."""

    def expectations(
        self,
        circuits: Sequence[FlatCircuit],
        observables: Sequence[PauliSum],
        options: Mapping[str, PropertyValue],
    ) -> list[list[float]]:
        """Return the value of each observable after each circuit; raises `ProgramError` where it cannot be computed."""
        ...

    def amplitudes(self, circuit: FlatCircuit) -> bytes:
        """Return 2^num_qubits amplitudes as complex64 of this machine, index bit q = qubit q, up to a global phase.

        Raises `ProgramError` for a circuit that is too wide, noisy, or measures before its end.
        """
        ...


@runtime_checkable
class Calibrating(Protocol):
    """Ability `calibrate`: a device that can measure how fast it runs, so that its estimates fit."""

    def calibrate(self) -> Mapping[str, Property]:
        """Measure, which may take a second, and return what was found."""
        ...
