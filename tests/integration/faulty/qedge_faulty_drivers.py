"""Drivers that misbehave on demand, installed into a test daemon by PYTHONPATH and loaded by entry point."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

from qedge_driver_api import (
    DeviceStatus,
    DriverContext,
    DriverInfo,
    DriverKind,
    Health,
    JobStatus,
    OperatingState,
    Property,
    QpuEstimate,
    QpuProperties,
    QpuResult,
    QpuTask,
    RawSamples,
    setting,
    settings_schema,
)


@dataclass(frozen=True)
class QpuSettings:
    """How the QPU misbehaves."""

    mode: str = setting(
        "well",
        description="What it does with a task.",
        choices=("well", "hang", "crash", "wrong_sum", "bad_key", "nan", "nonsense", "negative"),
    )


BAD_SHOTS = 101
"""A task of so many shots meets the fault; any other, such as the one that warms the worker, does not."""


class _Base:
    def probe(self) -> None:
        return

    def open(self, context: DriverContext) -> None:
        self.context = context

    def close(self) -> None:
        return

    def health(self) -> Health:
        return Health(OperatingState.UP)

    def properties(self) -> Mapping[str, Property]:
        return {}


class FaultyQpu(_Base):
    """A QPU of four qubits that always measures 0, or worse."""

    Settings = QpuSettings

    def __init__(self, settings: QpuSettings) -> None:
        self.settings = settings
        self.tasks: dict[str, QpuTask] = {}

    @classmethod
    def describe(cls) -> DriverInfo:
        return DriverInfo(
            "faulty_qpu", DriverKind.QPU, "1", "Misbehaves.", settings_schema(QpuSettings), simulated=True
        )

    def qpu_properties(self) -> QpuProperties:
        return QpuProperties("faulty", 30, DeviceStatus.IDLE)

    def estimate(self, task: QpuTask) -> QpuEstimate:
        return QpuEstimate(1000, 0.001, "faulty")

    def submit(self, task: QpuTask) -> str:
        if task.shots == BAD_SHOTS and self.settings.mode == "hang":
            while True:
                time.sleep(1)
        if task.shots == BAD_SHOTS and self.settings.mode == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        job_id = str(len(self.tasks))
        self.tasks[job_id] = task
        return job_id

    def wait(self, job_id: str, timeout_s: float) -> JobStatus:
        return JobStatus.DONE

    def result(self, job_id: str) -> QpuResult:
        task = self.tasks[job_id]
        shots = task.shots
        answers: dict[str, object] = {
            "well": QpuResult({0: shots}, shots, {"method": "faulty"}),
            "wrong_sum": QpuResult({0: shots + 1}, shots, {"method": "faulty"}),
            "bad_key": QpuResult({1 << task.circuit.num_clbits: shots}, shots, {"method": "faulty"}),
            "nan": QpuResult({0: shots}, shots, {"method": "faulty", "fidelity": float("nan")}),
            "negative": QpuResult({0: shots + 5, 1: -5}, shots, {"method": "faulty"}),
            "nonsense": ["not", "a", "result"],
        }
        return answers[self.settings.mode if shots == BAD_SHOTS else "well"]  # type: ignore[return-value]

    def cancel(self, job_id: str) -> None:
        return

    def free(self, job_id: str) -> None:
        self.tasks.pop(job_id, None)


@dataclass(frozen=True)
class QrngSettings:
    """How the random source misbehaves."""

    mode: str = setting(
        "well", description="What a read gives.", choices=("well", "hang", "short", "nan", "nonsense", "zeros")
    )


class FaultyQrng(_Base):
    """A random source that may hang or lie."""

    Settings = QrngSettings

    def __init__(self, settings: QrngSettings) -> None:
        self.settings = settings

    @classmethod
    def describe(cls) -> DriverInfo:
        return DriverInfo(
            "faulty_qrng", DriverKind.QRNG, "1", "Misbehaves.", settings_schema(QrngSettings), simulated=True
        )

    def reconfigure(self, settings: QrngSettings) -> None:
        self.settings = settings

    def read(self, num_bytes: int) -> RawSamples:
        mode = self.settings.mode
        if mode == "hang":
            while True:
                time.sleep(1)
        data = os.urandom(num_bytes)
        if mode == "short":
            data = data[:-1]
        if mode == "zeros":
            data = bytes(num_bytes)
        if mode == "nonsense":
            return {"data": "none"}  # type: ignore[return-value]
        return RawSamples(data, 8, float("nan") if mode == "nan" else 7.0)
