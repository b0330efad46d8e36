"""Small drivers that fulfil the contract; the broken ones are made from them, each with one fault."""

from __future__ import annotations

import itertools
import random
import time
import uuid
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from qedge_driver_api import (
    DetectionBlock,
    DeviceStatus,
    DriverContext,
    DriverInfo,
    DriverKind,
    FatalError,
    FinishedKey,
    FlatCircuit,
    Gate,
    Health,
    JobStatus,
    OperatingState,
    OperationAt,
    OperationProperties,
    Preparations,
    ProgramError,
    Property,
    QpuEstimate,
    QpuProperties,
    QpuResult,
    QpuTask,
    RawSamples,
    RetriableError,
    setting,
    settings_schema,
)


@dataclass(frozen=True)
class SoundSettings:
    """Settings of each type."""

    rate: float = setting(1.0, description="A rate.", unit="Hz", minimum=0.0, maximum=10.0)
    level: int = setting(1, description="A level.", minimum=0, maximum=3)
    mode: str = setting("plain", description="A mode.", choices=("plain", "other"))
    on: bool = setting(True, description="Whether it is on.")
    weights: tuple[float, ...] = setting((1.0,), description="Weights.", minimum=0.0, maximum=1.0)


class Sound:
    """What all kinds share."""

    Settings: ClassVar[type[Any]] = SoundSettings
    kind = DriverKind.QRNG
    abilities: tuple[str, ...] = ()

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.context: DriverContext | None = None

    @classmethod
    def describe(cls) -> DriverInfo:
        return DriverInfo(
            name=cls.__name__.lower(),
            kind=cls.kind,
            version="1",
            summary="A driver of the tests.",
            settings=settings_schema(cls.Settings),
            abilities=cls.abilities,
            simulated=True,
        )

    def probe(self) -> None:
        return

    def open(self, context: DriverContext) -> None:
        self.context = context

    def close(self) -> None:
        self.context = None

    def health(self) -> Health:
        return Health(OperatingState.DOWN if self.context is None else OperatingState.UP)

    def properties(self) -> Mapping[str, Property]:
        return {"model": "T1", "rate": 1.5, "channels": (1, 2)}

    def opened(self) -> DriverContext:
        if self.context is None:
            raise RetriableError("not open")
        return self.context


class SoundQrng(Sound):
    """Gives the bytes of the kit's own source."""

    def read(self, num_bytes: int) -> RawSamples:
        if not 1 <= num_bytes <= 1 << 20:
            raise FatalError("1 byte to 1 MiB")
        return RawSamples(self.opened().random_bytes(num_bytes), 8, 6.0)


class SoundQpu(Sound):
    """Runs H, X and CX on few qubits by following amplitudes of equal size."""

    kind = DriverKind.QPU
    num_qubits = 5
    max_shots = 10_000

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.jobs: dict[str, QpuResult] = {}
        self.numbers = itertools.count()

    def qpu_properties(self) -> QpuProperties:
        self.opened()
        pair = OperationProperties("cx", 2, 0.2, 0.99, at=(OperationAt((1, 0), 0.3, 0.98),))
        turn = OperationProperties("r", 1, 0.02, 0.0, num_parameters=2)
        return QpuProperties(
            "t",
            self.num_qubits,
            DeviceStatus.IDLE,
            operations=(turn, pair),
            max_shots=self.max_shots,
            calibrated_at_s=1.7e9,
        )

    def check(self, task: QpuTask) -> None:
        if task.circuit.num_qubits > self.num_qubits:
            raise ProgramError("too_many_qubits", "too many qubits")
        if not 1 <= task.shots <= self.max_shots:
            raise ProgramError("too_many_shots", "1 to 10,000 shots")
        for op in task.circuit.ops:
            if op[0] not in (Gate.H, Gate.X, Gate.CX, Gate.MEASURE):
                raise ProgramError("unsupported", f"operation {op[0]}")

    def estimate(self, task: QpuTask) -> QpuEstimate:
        self.opened()
        self.check(task)
        return QpuEstimate(1024, 0.001, "walk")

    def submit(self, task: QpuTask) -> str:
        self.opened()
        self.check(task)
        coin = random.Random(task.seed)
        counts: dict[int, int] = {}
        for _ in range(task.shots):
            value = self.shot(task.circuit, coin)
            counts[value] = counts.get(value, 0) + 1
        job = f"job-{next(self.numbers)}"
        self.jobs[job] = QpuResult(counts, task.shots, {"method": "walk"})
        return job

    def shot(self, circuit: FlatCircuit, coin: random.Random) -> int:
        """A bit that H acts on is a fair coin; enough for circuits with one layer of H on fresh qubits."""
        bits = [0] * circuit.num_qubits
        value = 0
        for gate, qubits, _, clbit in circuit.ops:
            if gate == Gate.H:
                bits[qubits[0]] = coin.getrandbits(1)
            elif gate == Gate.X:
                bits[qubits[0]] ^= 1
            elif gate == Gate.CX:
                bits[qubits[1]] ^= bits[qubits[0]]
            else:
                value = value & ~(1 << clbit) | bits[qubits[0]] << clbit
        return value

    def wait(self, job_id: str, timeout_s: float) -> JobStatus:
        self.found(job_id)
        return JobStatus.DONE

    def result(self, job_id: str) -> QpuResult:
        return self.found(job_id)

    def cancel(self, job_id: str) -> None:
        return

    def free(self, job_id: str) -> None:
        self.jobs.pop(job_id, None)

    def found(self, job_id: str) -> QpuResult:
        self.opened()
        if job_id not in self.jobs:
            raise FatalError(f"no job {job_id}")
        return self.jobs[job_id]


@dataclass(frozen=True)
class EndSettings:
    """Settings of a transceiver."""

    role: str = setting(description="The end.", choices=("alice", "bob"))


class SoundQkd(Sound):
    """Two ends in one process, joined by a class attribute."""

    Settings = EndSettings
    kind = DriverKind.QKD
    sender: ClassVar[SoundQkd | None] = None

    def open(self, context: DriverContext) -> None:
        super().open(context)
        self.next_slot = 100
        self.coin = random.Random(1)
        if self.settings.role == "alice":
            SoundQkd.sender = self

    def close(self) -> None:
        super().close()
        if SoundQkd.sender is self:
            SoundQkd.sender = None

    def properties(self) -> Mapping[str, Property]:
        return {"mean_photon_numbers": (0.5, 0.1)}

    def sent(self, slot: int) -> tuple[int, int]:
        word = hash((slot, 17))
        return word >> 3 & 1, word >> 5 & 1

    def read_block(self, timeout_s: float) -> DetectionBlock | None:
        if self.settings.role != "bob":
            raise FatalError("this is Alice")
        self.opened()
        if SoundQkd.sender is None:
            time.sleep(timeout_s)
            return None
        first, self.next_slot = self.next_slot, self.next_slot + 5000
        slots = array("Q", range(first, self.next_slot, 10))
        bases = bytes(self.coin.getrandbits(1) for _ in slots)
        bits = bytes(
            bit if basis == own else self.coin.getrandbits(1)
            for (basis, bit), own in zip(map(self.sent, slots), bases, strict=True)
        )
        return DetectionBlock(first, 5000, slots.tobytes(), bases, bits)

    def preparations(self, slots: bytes) -> Preparations:
        self.alice()
        sent = [self.sent(slot) for slot in array("Q", slots)]
        return Preparations(bytes(basis for basis, _ in sent), bytes(bit for _, bit in sent), bytes(len(sent)))

    def release(self, before_slot: int) -> None:
        self.alice()

    def alice(self) -> None:
        if self.settings.role != "alice":
            raise FatalError("this is Bob")
        self.opened()


class SoundKeySource(Sound):
    """A vendor's key manager."""

    kind = DriverKind.QKD

    def take(self, number: int, size_bits: int) -> tuple[FinishedKey, ...]:
        random_bytes = self.opened().random_bytes
        return tuple(FinishedKey(str(uuid.uuid4()), random_bytes(size_bits // 8)) for _ in range(number))

    def take_by_id(self, key_ids: tuple[str, ...]) -> tuple[FinishedKey, ...]:
        self.opened()
        raise RetriableError("these keys are not there yet")


SOUND = (SoundQrng, SoundQpu, SoundQkd, SoundKeySource)
