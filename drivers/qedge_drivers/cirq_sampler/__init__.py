"""Any `cirq.Sampler` as a QPU: a hardware vendor's, or a simulator. cirq loads on `open`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from qedge_driver_api import (
    DeviceStatus,
    DriverContext,
    DriverError,
    DriverInfo,
    DriverKind,
    FatalError,
    Gate,
    Health,
    JobStatus,
    OperatingState,
    ProgramError,
    Property,
    QpuEstimate,
    QpuProperties,
    QpuResult,
    QpuTask,
    RetriableError,
    settings_schema,
)
from qedge_drivers.cirq_sampler.settings import CirqSamplerSettings, sampler_path

if TYPE_CHECKING:
    from qedge_drivers.cirq_sampler.conversion import Converted

_VERSION = "1.0.0"
_BYTES_PER_OP = 4096
_BYTES_PER_BIT = 16
_BASE_BYTES = 32 << 20
_MAX_SIMULATED_QUBITS = 30


@dataclass(slots=True)
class _Job:
    """One call of a sampler, in a thread of its own; `result` or `error` is set before `ended`."""

    ended: threading.Event = field(default_factory=threading.Event)
    cancelled: bool = False
    result: QpuResult | None = None
    error: DriverError | None = None


class CirqSampler:
    """The driver. A sampler can neither be asked for its state nor stopped: `cancel` drops what it returns."""

    Settings: ClassVar[type[CirqSamplerSettings]] = CirqSamplerSettings

    def __init__(self, settings: CirqSamplerSettings) -> None:
        self._settings = settings
        self._path = sampler_path(settings)
        self._make: Callable[[int], Any] | None = None
        self._simulated = False
        self._sampler_name = ""
        self._jobs: dict[str, _Job] = {}
        self._numbers = itertools.count(1)
        self._name = "cirq_sampler"
        self._last_error = ""

    @classmethod
    def describe(cls) -> DriverInfo:
        """See `Driver.describe`."""
        return DriverInfo(
            name="cirq_sampler",
            kind=DriverKind.QPU,
            version=_VERSION,
            summary="Any cirq.Sampler, named as module:attribute: a hardware vendor's, or a simulator.",
            settings=settings_schema(CirqSamplerSettings),
            abilities=("mid_circuit_measurement", "feed_forward"),
            # what is behind a sampler is known when it is open; results of simulators say so in their metadata
            simulated=False,
        )

    def probe(self) -> None:
        """See `Driver.probe`."""
        for name in ("cirq", self._path[0].split(".", maxsplit=1)[0]):
            if importlib.util.find_spec(name) is None:
                raise FatalError(f"the module {name} is not installed")

    def open(self, context: DriverContext) -> None:
        """See `Driver.open`."""
        self._make = None
        module_name, attribute = self._path
        try:
            cirq = importlib.import_module("cirq")
            found: Any = importlib.import_module(module_name)
            for name in attribute.split("."):
                found = getattr(found, name)
        except (ImportError, AttributeError) as error:
            raise FatalError(f"the sampler {self._settings.sampler} cannot be loaded: {error}") from error
        make = _factory(found, cirq)
        sampler = _checked(make(0), cirq, self._settings.sampler)
        self._simulated = isinstance(sampler, cirq.SimulatesSamples)
        self._sampler_name = type(sampler).__name__
        self._name = context.instance
        self._make = make

    def close(self) -> None:
        """See `Driver.close`."""
        self._make = None
        for job in self._jobs.values():
            job.cancelled = True
        self._jobs.clear()

    def health(self) -> Health:
        """See `Driver.health`."""
        if self._make is None:
            return Health(OperatingState.DOWN, "not open")
        if self._last_error:
            return Health(OperatingState.DEGRADED, f"the last job failed: {self._last_error}"[:200])
        return Health(OperatingState.UP)

    def properties(self) -> Mapping[str, Property]:
        """See `Driver.properties`."""
        self._open_sampler()
        return {
            "sampler": self._settings.sampler,
            "class": self._sampler_name,
            "simulated": self._simulated,
            "num_qubits": self._settings.qubits,
        }

    def qpu_properties(self) -> QpuProperties:
        """See `QpuDriver.qpu_properties`."""
        self._open_sampler()
        running = sum(1 for job in self._jobs.values() if not job.ended.is_set())
        return QpuProperties(
            name=self._name,
            num_qubits=self._settings.qubits,
            status=DeviceStatus.BUSY if running else DeviceStatus.IDLE,
            queue_length=running,
            max_shots=self._settings.max_shots,
        )

    def estimate(self, task: QpuTask) -> QpuEstimate:
        """See `QpuDriver.estimate`."""
        settings, circuit = self._settings, task.circuit
        used = {q for op in circuit.ops if op[0] != Gate.BARRIER for q in op[1]}
        if used and max(used) >= settings.qubits:
            raise ProgramError(
                "too_many_qubits", f"the program acts on qubit {max(used)}, but the device has {settings.qubits}"
            )
        if not 1 <= task.shots <= settings.max_shots:
            raise ProgramError("too_many_shots", f"expected 1 … {settings.max_shots} shots, got {task.shots}")
        memory = _BASE_BYTES + _BYTES_PER_OP * len(circuit.ops) + _BYTES_PER_BIT * task.shots * circuit.num_clbits
        seconds = settings.time_per_job_s + settings.time_per_shot_s * task.shots
        if self._simulated:
            if len(used) > _MAX_SIMULATED_QUBITS:
                raise ProgramError("too_many_qubits", f"a state of {len(used)} qubits is not held")
            memory += 4 * 8 << len(used)
            seconds += len(circuit.ops) * (1e-4 + math.ldexp(1e-9, len(used)))
        return QpuEstimate(memory, seconds, "sampler")

    def submit(self, task: QpuTask) -> str:
        """See `QpuDriver.submit`."""
        from qedge_drivers.cirq_sampler.conversion import to_cirq

        make = self._open_sampler()
        self.estimate(task)
        converted = to_cirq(task.circuit)
        job, job_id = _Job(), f"job-{next(self._numbers)}"
        self._jobs[job_id] = job
        # a sampler may block for as long as its queue is
        threading.Thread(target=self._run, args=(job, make, converted, task), name=job_id, daemon=True).start()
        return job_id

    def _run(self, job: _Job, make: Callable[[int], Any], converted: Converted, task: QpuTask) -> None:
        from qedge_drivers.cirq_sampler.conversion import read_counts

        started = time.perf_counter()
        try:
            # samplers refuse circuits that measure nothing
            result = make(task.seed).run(converted.circuit, repetitions=task.shots) if converted.keys else None
            counts = read_counts(result, converted, task.shots)
            job.result = QpuResult(
                counts,
                task.shots,
                {
                    "method": "sampler",
                    "sampler": self._sampler_name,
                    "simulated": self._simulated,
                    "sampler_s": time.perf_counter() - started,
                },
            )
            self._last_error = ""
        except DriverError as error:
            job.error = error
        except (ValueError, TypeError, NotImplementedError) as error:
            # this is how samplers say that they do not take a circuit
            job.error = ProgramError("unsupported", f"the sampler refused the circuit: {error}"[:500])
        except Exception as error:  # noqa: BLE001 # a vendor's library raises what it likes; the job reports it
            job.error = RetriableError(f"the sampler failed: {type(error).__name__}: {error}"[:500])
        finally:
            if job.error is not None and not isinstance(job.error, ProgramError):
                self._last_error = str(job.error)
            job.ended.set()

    def wait(self, job_id: str, timeout_s: float) -> JobStatus:
        """See `QpuDriver.wait`."""
        job = self._job(job_id)
        if not job.cancelled:
            job.ended.wait(timeout_s)
        if job.cancelled:
            return JobStatus.CANCELLED
        if not job.ended.is_set():
            return JobStatus.RUNNING
        return JobStatus.DONE if job.result is not None else JobStatus.FAILED

    def result(self, job_id: str) -> QpuResult:
        """See `QpuDriver.result`."""
        job = self._job(job_id)
        if job.cancelled:
            raise FatalError(f"job {job_id} was cancelled")
        if job.error is not None:
            raise job.error
        if job.result is None:
            raise RetriableError(f"job {job_id} has not ended")
        return job.result

    def cancel(self, job_id: str) -> None:
        """See `QpuDriver.cancel`."""
        job = self._jobs.get(job_id)
        if job is not None and not job.ended.is_set():
            job.cancelled = True

    def free(self, job_id: str) -> None:
        """See `QpuDriver.free`."""
        self._jobs.pop(job_id, None)

    def _job(self, job_id: str) -> _Job:
        if job_id not in self._jobs:
            raise FatalError(f"no job {job_id}")
        return self._jobs[job_id]

    def _open_sampler(self) -> Callable[[int], Any]:
        if self._make is None:
            raise RetriableError("the sampler is not open")
        return self._make


def _factory(found: Any, cirq: Any) -> Callable[[int], Any]:
    """Return the function from a job's seed to its sampler."""
    if isinstance(found, cirq.Sampler):
        return lambda _seed: found
    if not callable(found):
        raise FatalError(f"{found!r} is neither a cirq.Sampler nor callable"[:200])
    try:
        seeded = "seed" in inspect.signature(found).parameters
    except (TypeError, ValueError):
        seeded = False
    if seeded:
        return lambda seed: found(seed=seed)
    made = _called(found)
    return lambda _seed: made


def _called(found: Callable[[], Any]) -> Any:
    try:
        return found()
    except Exception as error:
        raise RetriableError(f"the sampler cannot be made: {type(error).__name__}: {error}"[:500]) from error


def _checked(sampler: Any, cirq: Any, path: str) -> Any:
    if not isinstance(sampler, cirq.Sampler):
        raise FatalError(f"{path} gives a {type(sampler).__name__}, which is no cirq.Sampler")
    return sampler
