"""A simulated QPU: exact for clean devices, noisy where the device is set to be. Heavy libraries load on `open`."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from qedge_driver_api import (
    DeviceStatus,
    DriverContext,
    DriverInfo,
    DriverKind,
    FatalError,
    FlatCircuit,
    Health,
    JobStatus,
    OperatingState,
    OperationProperties,
    PauliSum,
    Property,
    PropertyValue,
    QpuEstimate,
    QpuProperties,
    QpuResult,
    QpuTask,
    RetriableError,
    SiteProperties,
    settings_schema,
)
from qedge_drivers.sim_qpu.settings import Device, SimQpuSettings, resolve

if TYPE_CHECKING:
    from qedge_drivers.sim_qpu.simulator import Simulator

_VERSION = "1.0.0"
_MAX_SHOTS = 1_000_000


def _never() -> bool:
    return False


class SimQpu:
    """The driver. Jobs run inside `submit`; their results stay until `free`."""

    Settings: ClassVar[type[SimQpuSettings]] = SimQpuSettings

    def __init__(self, settings: SimQpuSettings) -> None:
        self._settings = settings
        self._device = resolve(settings)
        self._simulator: Simulator | None = None
        self._cancelled: Callable[[], bool] = _never
        self._jobs: dict[str, QpuResult | JobStatus] = {}
        self._numbers = itertools.count(1)
        self._name = "sim_qpu"

    @classmethod
    def describe(cls) -> DriverInfo:
        """See `Driver.describe`."""
        return DriverInfo(
            name="sim_qpu",
            kind=DriverKind.QPU,
            version=_VERSION,
            summary="Simulated QPU with configurable size, connectivity, fidelity, coherence and readout error.",
            settings=settings_schema(SimQpuSettings),
            abilities=("reconfigure", "mid_circuit_measurement", "feed_forward", "estimate", "states", "calibrate"),
            simulated=True,
        )

    def probe(self) -> None:
        """See `Driver.probe`."""
        if importlib.util.find_spec("numpy") is None:
            raise FatalError("numpy is not installed")

    def open(self, context: DriverContext) -> None:
        """See `Driver.open`."""
        from qedge_drivers.sim_qpu.simulator import Simulator

        self._simulator = Simulator(self._device, self._settings.backend)
        self._cancelled = context.cancelled
        self._name = context.instance

    def close(self) -> None:
        """See `Driver.close`."""
        self._simulator = None
        self._jobs.clear()

    def health(self) -> Health:
        """See `Driver.health`."""
        if self._simulator is None:
            return Health(OperatingState.DOWN, "not open")
        return Health(OperatingState.UP, data_age_s=0.0)

    def properties(self) -> Mapping[str, Property]:
        """See `Driver.properties`."""
        from qedge_drivers.sim_qpu.methods import METHODS

        simulator = self._open_simulator()
        return {
            "preset": self._settings.preset,
            "connectivity": self._device.connectivity,
            "backend": simulator.backend.name,
            "stabilizer": simulator.has_stim,
            "num_qubits": self._device.num_qubits,
            "methods": ",".join(METHODS),
        }

    def reconfigure(self, settings: SimQpuSettings) -> None:
        """See `Reconfigurable.reconfigure`."""
        device: Device = resolve(settings)
        if self._simulator is not None:
            from qedge_drivers.sim_qpu.simulator import Simulator

            self._simulator = Simulator(device, settings.backend)
        self._settings, self._device = settings, device

    def qpu_properties(self) -> QpuProperties:
        """See `QpuDriver.qpu_properties`."""
        self._open_simulator()
        device = self._device
        t1_us = 0.0 if device.t1_us == float("inf") else device.t1_us
        t2_us = 0.0 if device.t2_us == float("inf") else device.t2_us
        return QpuProperties(
            name=self._name,
            num_qubits=device.num_qubits,
            status=DeviceStatus.IDLE,
            sites=tuple(
                SiteProperties(index, t1_us, t2_us, device.readout_error) for index in range(device.num_qubits)
            ),
            operations=(
                OperationProperties("1q", 1, device.duration_1q_us, device.fidelity_1q),
                OperationProperties("2q", 2, device.duration_2q_us, device.fidelity_2q),
                OperationProperties("measure", 1, device.duration_readout_us, 1 - device.readout_error),
            ),
            coupling=device.coupling(),
            max_shots=_MAX_SHOTS,
        )

    def estimate(self, task: QpuTask) -> QpuEstimate:
        """See `QpuDriver.estimate`."""
        return self._open_simulator().estimate(task)

    def submit(self, task: QpuTask) -> str:
        """See `QpuDriver.submit`."""
        from qedge_drivers.sim_qpu.branching import CancelledError

        simulator = self._open_simulator()
        job_id = f"job-{next(self._numbers)}"
        try:
            self._jobs[job_id] = simulator.run(task, self._cancelled)
        except CancelledError:
            self._jobs[job_id] = JobStatus.CANCELLED
        return job_id

    def expectations(
        self,
        circuits: Sequence[FlatCircuit],
        observables: Sequence[PauliSum],
        options: Mapping[str, PropertyValue],
    ) -> list[list[float]]:
        """See `StateQpu.expectations`; readout errors are not in them."""
        from qedge_drivers.sim_qpu.observables import expectations

        return expectations(self._open_simulator(), circuits, observables, options)

    def amplitudes(self, circuit: FlatCircuit) -> bytes:
        """See `StateQpu.amplitudes`."""
        from qedge_drivers.sim_qpu.observables import amplitudes

        return amplitudes(self._open_simulator(), circuit)

    def calibrate(self) -> Mapping[str, Property]:
        """See `Calibrating.calibrate`: nanoseconds per amplitude and pass of the kernel, by number of qubits."""
        return dict(self._open_simulator().calibrate())

    def wait(self, job_id: str, timeout_s: float) -> JobStatus:
        """See `QpuDriver.wait`."""
        job = self._job(job_id)
        return JobStatus.DONE if isinstance(job, QpuResult) else job

    def result(self, job_id: str) -> QpuResult:
        """See `QpuDriver.result`."""
        job = self._job(job_id)
        if isinstance(job, QpuResult):
            return job
        raise FatalError(f"job {job_id} is {job}")

    def cancel(self, job_id: str) -> None:
        """See `QpuDriver.cancel`; a job has ended before its id is known, so there is nothing to do."""

    def free(self, job_id: str) -> None:
        """See `QpuDriver.free`."""
        self._jobs.pop(job_id, None)

    def _job(self, job_id: str) -> QpuResult | JobStatus:
        if job_id not in self._jobs:
            raise FatalError(f"no job {job_id}")
        return self._jobs[job_id]

    def _open_simulator(self) -> Simulator:
        if self._simulator is None:
            raise RetriableError("the device is not open")
        return self._simulator
