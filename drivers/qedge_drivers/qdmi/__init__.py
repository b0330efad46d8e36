"""A device behind the Quantum Device Management Interface as a QPU, through mqt-core, which loads on `open`."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from qedge_driver_api import (
    DeviceStatus,
    DriverContext,
    DriverInfo,
    DriverKind,
    FatalError,
    Gate,
    Health,
    JobStatus,
    OperatingState,
    ProgramError,
    ProgramFormat,
    Property,
    QpuEstimate,
    QpuProperties,
    QpuResult,
    QpuTask,
    RetriableError,
    settings_schema,
)
from qedge_drivers.qdmi.settings import (
    SIMULATOR_QUBITS,
    QdmiSettings,
    check,
    is_simulator,
    seed_parameter,
)

if TYPE_CHECKING:
    from qedge_drivers.qdmi.device import Facts
    from qedge_drivers.qdmi.program import Written

_VERSION: Final = "1.0.0"
_METHOD: Final = "qdmi"
_FINAL: Final = (JobStatus.DONE, JobStatus.CANCELLED, JobStatus.FAILED)
_SEEDS: Final = (1 << 31) - 1
_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.05
_BASE_BYTES: Final = 64 << 20
_BYTES_PER_OP: Final = 2048
_BYTES_PER_AMPLITUDE: Final = 1024
_S_PER_AMPLITUDE: Final = 2e-6
"""Decision diagrams of random states of 14 to 18 qubits, by mqt-core 4.1.1: memory, and time for each operation."""
_DIAGONAL: Final = frozenset(
    {Gate.GPHASE, Gate.ID, Gate.Z, Gate.S, Gate.SDG, Gate.T, Gate.TDG, Gate.RZ, Gate.P, Gate.CZ, Gate.CP, Gate.CRZ}
    | {Gate.RZZ, Gate.CCZ}
)
_PERMUTING: Final = frozenset(
    {Gate.X, Gate.Y, Gate.CX, Gate.CY, Gate.SWAP, Gate.ISWAP, Gate.CCX, Gate.CSWAP, Gate.MEASURE, Gate.RESET}
    | {Gate.BARRIER, Gate.IF}
)
_AWAY: Final = (DeviceStatus.OFFLINE, DeviceStatus.ERROR, DeviceStatus.MAINTENANCE, DeviceStatus.CALIBRATION)


@dataclass(slots=True)
class _Job:
    """A job of the device; `handle` is None for a program that measures nothing, which no device is asked to run."""

    handle: Any  # mqt.core.qdmi.Job
    written: Written
    language: str
    shots: int
    started: float
    dropped: bool = False
    result: QpuResult | None = None


class Qdmi:
    """The driver. Jobs live at the device until `free`; those that run are cancelled first."""

    Settings: ClassVar[type[QdmiSettings]] = QdmiSettings

    def __init__(self, settings: QdmiSettings) -> None:
        check(settings)
        self._settings = settings
        self._simulated = is_simulator(settings)
        self._seed_parameter = seed_parameter(settings)
        self._device: Any = None  # mqt.core.qdmi.Device
        self._facts: Facts | None = None
        self._formats: Mapping[str, Any] = {}  # mqt.core.qdmi.ProgramFormat by name
        self._jobs: dict[str, _Job] = {}
        self._numbers = itertools.count(1)
        self._name = "qdmi"
        self._last_error = ""

    @classmethod
    def describe(cls) -> DriverInfo:
        """See `Driver.describe`."""
        return DriverInfo(
            name="qdmi",
            kind=DriverKind.QPU,
            version=_VERSION,
            summary="A device behind the Quantum Device Management Interface (QDMI), through mqt-core.",
            settings=settings_schema(QdmiSettings),
            abilities=("mid_circuit_measurement", "feed_forward"),
            # what is behind an id is a setting; results of simulators say so in their metadata
            simulated=False,
        )

    def probe(self) -> None:
        """See `Driver.probe`."""
        if importlib.util.find_spec("mqt") is None or importlib.util.find_spec("mqt.core") is None:
            raise FatalError("mqt-core is not installed, which speaks QDMI: pip install 'qedge[qdmi]'")
        for key in ("manifest", "auth_file", "token_file"):
            path = getattr(self._settings, key)
            if path and not Path(path).is_file():
                raise FatalError(f"{key}: there is no file {path[:200]}")

    def open(self, context: DriverContext) -> None:
        """See `Driver.open`."""
        self.close()
        self.probe()
        try:
            qdmi = importlib.import_module("mqt.core.qdmi")
        except ImportError as error:
            raise FatalError(f"mqt-core cannot be loaded: {error}"[:500]) from error
        from qedge_drivers.qdmi.device import read

        settings = self._settings
        limit = settings.qubits or (SIMULATOR_QUBITS if self._simulated else 0)
        try:
            if settings.manifest and settings.device not in qdmi.builtin_driver.registered_device_ids():
                qdmi.builtin_driver.add_manifest(settings.manifest)
            known = list(qdmi.device_ids())
            if settings.device not in known:
                raise FatalError(f"QDMI knows no device {settings.device!r}, but {', '.join(known)}"[:500])
            device = qdmi.open_device(settings.device, **self._credentials())
            self._facts = read(device, limit)
        except (RuntimeError, ValueError, OSError, IndexError) as error:
            raise RetriableError(f"the device {settings.device} cannot be opened: {error}"[:500]) from error
        self._formats = qdmi.ProgramFormat.__members__
        self._device = device
        self._name = context.instance
        self._last_error = ""

    def _credentials(self) -> dict[str, str]:
        settings = self._settings
        token = Path(settings.token_file).read_text("utf-8").strip() if settings.token_file else ""
        given = {
            "auth_file": settings.auth_file,
            "auth_url": settings.auth_url,
            "project_id": settings.project,
            "token": token,
        }
        return {key: value for key, value in given.items() if value}

    def close(self) -> None:
        """See `Driver.close`."""
        for job_id in list(self._jobs):
            self.free(job_id)
        self._device = self._facts = None

    def health(self) -> Health:
        """See `Driver.health`."""
        if self._device is None:
            return Health(OperatingState.DOWN, "not open")
        status = self._status()
        if status in (DeviceStatus.OFFLINE, DeviceStatus.ERROR):
            return Health(OperatingState.DOWN, f"the device says that it is {status}")
        if status in _AWAY:
            return Health(OperatingState.DEGRADED, f"the device says that it is in {status}")
        if self._last_error:
            return Health(OperatingState.DEGRADED, f"the last job failed: {self._last_error}"[:200])
        return Health(OperatingState.UP)

    def properties(self) -> Mapping[str, Property]:
        """See `Driver.properties`."""
        device, facts = self._open_device()
        return {
            "device": self._settings.device,
            "device_name": facts.name,
            "device_version": str(device.version()),
            "qdmi_version": str(device.library_version()),
            "formats": tuple(str(each) for each in facts.formats),
            "simulated": self._simulated,
            "num_qubits": facts.num_qubits,
        }

    def qpu_properties(self) -> QpuProperties:
        """See `QpuDriver.qpu_properties`."""
        from qedge_drivers.qdmi.device import asked

        device, facts = self._open_device()
        waiting = asked(device.queue_length)
        if waiting is None:
            waiting = sum(1 for job in self._jobs.values() if self._reached(job) not in (*_FINAL, JobStatus.RUNNING))
        return QpuProperties(
            name=self._name,
            num_qubits=facts.num_qubits,
            status=self._status(),
            formats=(ProgramFormat.FLAT, *facts.formats),
            sites=facts.sites,
            operations=facts.operations,
            coupling=facts.coupling,
            queue_length=int(waiting),
            max_shots=self._settings.max_shots,
        )

    def estimate(self, task: QpuTask) -> QpuEstimate:
        """See `QpuDriver.estimate`."""
        _, facts = self._open_device()
        settings, circuit = self._settings, task.circuit
        used = {q for op in circuit.ops if op[0] != Gate.BARRIER for q in op[1]}
        if used and max(used) >= facts.num_qubits:
            raise ProgramError(
                "too_many_qubits", f"the program acts on qubit {max(used)}, but the device has {facts.num_qubits}"
            )
        if not 1 <= task.shots <= settings.max_shots:
            raise ProgramError("too_many_shots", f"expected 1 … {settings.max_shots} shots, got {task.shots}")
        memory = _BASE_BYTES + _BYTES_PER_OP * len(circuit.ops)
        seconds = settings.time_per_job_s + task.shots * (settings.time_per_shot_s + self._duration_s(task, facts))
        if self._simulated:
            # the worst that such a circuit can be: no state has more amplitudes than superpositions made it have
            made = sum(1 for op in circuit.ops if op[0] not in _DIAGONAL and op[0] not in _PERMUTING)
            amplitudes = 1 << min(len(used), made)
            memory += _BYTES_PER_AMPLITUDE * amplitudes
            seconds += len(circuit.ops) * (1e-5 + _S_PER_AMPLITUDE * amplitudes)
        return QpuEstimate(memory, seconds, _METHOD)

    def _duration_s(self, task: QpuTask, facts: Facts) -> float:
        """Return how long one shot takes: the busiest qubit's operations, by the longest duration of their size."""
        longest = dict.fromkeys((1, 2, 3), 0.0)
        for each in facts.operations:
            if each.name != "measure" and each.num_qubits in longest:
                longest[each.num_qubits] = max(longest[each.num_qubits], each.duration_us)
        measure = next((each.duration_us for each in facts.operations if each.name == "measure"), 0.0)
        if not measure and not any(longest.values()):
            return 0.0
        busy = dict[int, float]()
        for gate, qubits, _, _ in task.circuit.ops:
            if qubits and gate != Gate.BARRIER:
                own = measure if gate in (Gate.MEASURE, Gate.RESET) else longest.get(len(qubits), longest[2])
                ready = max(busy.get(qubit, 0.0) for qubit in qubits) + own
                busy.update(dict.fromkeys(qubits, ready))
        return max(busy.values(), default=0.0) * 1e-6

    def submit(self, task: QpuTask) -> str:
        """See `QpuDriver.submit`."""
        from qedge_drivers.qdmi.program import write

        device, facts = self._open_device()
        self.estimate(task)
        language = self._language(task, facts)
        used = 1 + max((q for op in task.circuit.ops for q in op[1]), default=0)
        # a device that couples some of its qubits is programmed as a whole
        size = facts.num_qubits if facts.coupling else min(used, facts.num_qubits)
        written = write(task.circuit, facts.native, size, language)
        status = self._status()
        if status in _AWAY:
            raise RetriableError(f"the device takes no jobs: it says that it is in {status}")
        job = _Job(None, written, language, task.shots, time.perf_counter())
        job_id = f"job-{next(self._numbers)}"
        if written.clbits:
            seed = {self._seed_parameter: 1 + task.seed % _SEEDS} if self._seed_parameter else {}
            try:
                job.handle = device.submit_job(written.text, self._formats[language.upper()], task.shots, **seed)
            except ValueError as error:
                raise ProgramError("unsupported", f"the device refused the program: {error}"[:500]) from error
            except RuntimeError as error:
                self._last_error = str(error)
                raise RetriableError(f"the device took no job: {error}"[:500]) from error
        else:
            job.result = QpuResult({0: task.shots}, task.shots, self._metadata(job))
        self._jobs[job_id] = job
        return job_id

    def _language(self, task: QpuTask, facts: Facts) -> str:
        from qedge_drivers.qdmi.program import QASM2, QASM3, needs_qasm3

        spoken = [str(each) for each in facts.formats if each in (ProgramFormat.QASM2, ProgramFormat.QASM3)]
        wanted = self._settings.format
        if wanted == "auto":
            better = QASM3 if needs_qasm3(task.circuit) else QASM2
            wanted = better if better in spoken or not spoken else spoken[0]
        if wanted not in spoken:
            raise ProgramError("unsupported", f"the device takes no {wanted}, but {', '.join(spoken) or 'no OpenQASM'}")
        return wanted

    def wait(self, job_id: str, timeout_s: float) -> JobStatus:
        """See `QpuDriver.wait`. QDMI waits in whole seconds; what is shorter is asked for again and again."""
        job = self._job(job_id)
        deadline, pause_s = time.monotonic() + timeout_s, _FIRST_PAUSE_S
        while True:
            status = self._reached(job)
            left_s = deadline - time.monotonic()
            if status in _FINAL or left_s <= 0:
                return status
            if left_s >= 1:
                try:
                    job.handle.wait(int(left_s))
                except RuntimeError as error:
                    raise RetriableError(f"the device does not say how the job is: {error}"[:500]) from error
            else:
                time.sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _reached(self, job: _Job) -> JobStatus:
        from qedge_drivers.qdmi.device import JOB_STATUS

        if job.dropped:
            return JobStatus.CANCELLED
        if job.handle is None:
            return JobStatus.DONE
        try:
            return JOB_STATUS[job.handle.check().name]
        except (RuntimeError, KeyError) as error:
            raise RetriableError(f"the device does not say how the job is: {error}"[:500]) from error

    def result(self, job_id: str) -> QpuResult:
        """See `QpuDriver.result`."""
        from qedge_drivers.qdmi.program import read_counts

        job = self._job(job_id)
        status = self._reached(job)
        if status is JobStatus.CANCELLED:
            raise FatalError(f"job {job_id} was cancelled")
        if status is JobStatus.FAILED:
            self._last_error = "the device gave no reason"
            raise RetriableError("the device says that the job failed; QDMI passes on no reason")
        if status is not JobStatus.DONE:
            raise RetriableError(f"job {job_id} has not ended")
        if job.result is None:
            try:
                histogram = job.handle.get_counts()
            except (RuntimeError, ValueError) as error:
                self._last_error = str(error)
                raise RetriableError(f"the device gave no outcomes: {error}"[:500]) from error
            try:
                counts = read_counts(histogram, job.written, job.shots)
            except FatalError as error:
                self._last_error = str(error)
                raise
            job.result = QpuResult(counts, job.shots, self._metadata(job))
            self._last_error = ""
        return job.result

    def _metadata(self, job: _Job) -> dict[str, str | int | float | bool]:
        return {
            "method": _METHOD,
            "device": self._settings.device,
            "format": job.language,
            "simulated": self._simulated,
            "device_s": time.perf_counter() - job.started,
        }

    def cancel(self, job_id: str) -> None:
        """See `QpuDriver.cancel`. A device that cannot may run on: what it returns is then dropped."""
        job = self._jobs.get(job_id)
        if job is None or job.handle is None:
            return
        try:
            if self._reached(job) not in _FINAL:
                job.handle.cancel()
                job.dropped = True
        except (RuntimeError, ValueError, RetriableError) as error:
            job.dropped = True
            self._last_error = f"a job could not be cancelled: {error}"

    def free(self, job_id: str) -> None:
        """See `QpuDriver.free`."""
        # mqt-core waits for the end of a job whose handle goes
        self.cancel(job_id)
        self._jobs.pop(job_id, None)

    def _status(self) -> DeviceStatus:
        from qedge_drivers.qdmi.device import DEVICE_STATUS, asked

        status = asked(self._device.status)
        found = DeviceStatus.ERROR if status is None else DEVICE_STATUS.get(status.name, DeviceStatus.ERROR)
        running = any(self._reached(job) not in _FINAL for job in self._jobs.values())
        return DeviceStatus.BUSY if found is DeviceStatus.IDLE and running else found

    def _job(self, job_id: str) -> _Job:
        if job_id not in self._jobs:
            raise FatalError(f"no job {job_id}")
        return self._jobs[job_id]

    def _open_device(self) -> tuple[Any, Facts]:
        if self._device is None or self._facts is None:
            raise RetriableError("the device is not open")
        return self._device, self._facts
