"""Drivers with one fault each, beside the name of the check that must find it, and no other."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from qedge_driver_api import (
    BadSettingsError,
    DetectionBlock,
    DriverContext,
    DriverInfo,
    FinishedKey,
    FlatCircuit,
    Health,
    OperatingState,
    OperationAt,
    OperationProperties,
    Preparations,
    Property,
    QpuEstimate,
    QpuProperties,
    QpuResult,
    QpuTask,
    RawSamples,
    setting,
)
from tests.conformance.sound_drivers import SoundKeySource, SoundQkd, SoundQpu, SoundQrng, SoundSettings

BROKEN: Final[list[tuple[str, type[Any]]]] = []


def fails(check: str) -> Callable[[type[Any]], type[Any]]:
    """Register a driver that must fail exactly this check."""

    def register(driver: type[Any]) -> type[Any]:
        BROKEN.append((check, driver))
        return driver

    return register


@fails("describe")
class SaysNothing(SoundQrng):
    @classmethod
    def describe(cls) -> DriverInfo:
        return {"name": "dict"}  # type: ignore[return-value] # the fault


@fails("describe")
class RaisesInDescribe(SoundQrng):
    @classmethod
    def describe(cls) -> DriverInfo:
        raise RuntimeError("not today")


@fails("describe")
class HangsInDescribe(SoundQrng):
    @classmethod
    def describe(cls) -> DriverInfo:
        time.sleep(30)
        return super().describe()


@fails("describe-is-pure")
class DescribesItselfDifferently(SoundQrng):
    calls = 0

    @classmethod
    def describe(cls) -> DriverInfo:
        cls.calls += 1
        return replace(super().describe(), version=str(cls.calls))


@fails("describe-is-pure")
class LooksForItsDeviceInDescribe(SoundQrng):
    @classmethod
    def describe(cls) -> DriverInfo:
        with open(os.devnull, encoding="ascii"):
            return super().describe()


@fails("describe-is-fast")
class DescribesItselfSlowly(SoundQrng):
    @classmethod
    def describe(cls) -> DriverInfo:
        time.sleep(0.12)
        return super().describe()


@fails("import-is-light")
class ImportsHeavyThings(SoundQrng):
    @classmethod
    def describe(cls) -> DriverInfo:
        import numpy as np

        return replace(super().describe(), summary=f"Needs arrays such as {np.__name__} has.")


@fails("api-version")
class WasWrittenForAnotherContract(SoundQrng):
    @classmethod
    def describe(cls) -> DriverInfo:
        return replace(super().describe(), api_version=99)


@fails("interface")
class CannotRead(SoundQrng):
    read = None  # type: ignore[assignment] # the fault


@fails("interface")
class ClaimsAnAbilityItLacks(SoundQrng):
    abilities = ("reconfigure",)


@dataclass(frozen=True)
class BadDefault:
    """A default outside its own range."""

    level: int = setting(9, description="A level.", minimum=0, maximum=3)


@fails("settings-schema")
class HasABadDefault(SoundQrng):
    Settings = BadDefault


@fails("settings-accepted")
class RefusesItsOwnDefaults(SoundQrng):
    def __init__(self, settings: Any) -> None:
        raise BadSettingsError("never good enough")


@fails("settings-refused")
class TellsNarrowerLimitsThanItHolds(SoundQrng):
    @classmethod
    def describe(cls) -> DriverInfo:
        info = super().describe()
        rows = tuple(replace(row, maximum=2.0) if row.key == "level" else row for row in info.settings)
        return replace(info, settings=rows)


@fails("settings-at-limits")
class DividesByASetting(SoundQrng):
    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.period_s = 1 / settings.rate


@fails("constructor")
class ConnectsInTheConstructor(SoundQrng):
    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        socket.socket().close()


@fails("closed-driver")
class BreaksWhereItIsClosed(SoundQrng):
    def read(self, num_bytes: int) -> RawSamples:
        assert self.context is not None
        return super().read(num_bytes)


@fails("probe")
class LeavesAFileAfterProbe(SoundQrng):
    def probe(self) -> None:
        self.kept = [*getattr(self, "kept", []), os.open(os.devnull, os.O_RDONLY)]

    def __del__(self) -> None:
        for file in getattr(self, "kept", []):
            os.close(file)


@fails("probe")
class HangsInProbe(SoundQrng):
    def probe(self) -> None:
        time.sleep(30)


@fails("open")
class IsDownWhenOpen(SoundQrng):
    def health(self) -> Health:
        return Health(OperatingState.DOWN, "always")


@fails("open")
class HangsInOpen(SoundQrng):
    def open(self, context: DriverContext) -> None:
        time.sleep(30)


@fails("close")
class ClosesOnlyOnce(SoundQrng):
    def close(self) -> None:
        self.opened()
        super().close()


@fails("open-again")
class OpensOnlyOnce(SoundQrng):
    used = False

    def open(self, context: DriverContext) -> None:
        if self.used and self.context is None:
            raise RuntimeError("already used")
        self.used = True
        super().open(context)


@fails("failed-open")
class StaysBrokenAfterAFailedOpen(SoundQrng):
    stuck = False

    def open(self, context: DriverContext) -> None:
        if self.stuck:
            raise RuntimeError("half open")
        self.stuck = True
        context.random_bytes(1)
        self.stuck = False
        super().open(context)


@fails("leaks")
class LeaksDescriptors(SoundQrng):
    def open(self, context: DriverContext) -> None:
        self.files = [*getattr(self, "files", []), os.open(os.devnull, os.O_RDONLY)]
        super().open(context)

    def __del__(self) -> None:
        for file in getattr(self, "files", []):
            os.close(file)


@fails("leaks")
class LeaksThreads(SoundQrng):
    def open(self, context: DriverContext) -> None:
        threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
        super().open(context)


@fails("leaks")
class LeavesFiles(SoundQrng):
    def open(self, context: DriverContext) -> None:
        super().open(context)
        handle, _ = tempfile.mkstemp(dir=context.state_dir)
        os.close(handle)


@fails("health")
class IsUpBeforeItIsOpen(SoundQrng):
    probed = False

    def probe(self) -> None:
        self.probed = True

    def health(self) -> Health:
        return super().health() if self.probed else Health(OperatingState.UP)


@fails("health")
class HasNoIdeaOfTime(SoundQrng):
    used = False

    def close(self) -> None:
        self.used = self.used or self.context is not None
        super().close()

    def health(self) -> Health:
        return replace(super().health(), data_age_s=float("nan")) if self.used else super().health()


@fails("properties")
class HasStrangeProperties(SoundQrng):
    def properties(self) -> Mapping[str, Property]:
        return {"temperature": float("nan")}


@fails("properties")
class RaisesInProperties(SoundQrng):
    def properties(self) -> Mapping[str, Property]:
        raise KeyError("serial")


@fails("secrets")
class ShowsItsSeed(SoundQrng):
    def open(self, context: DriverContext) -> None:
        super().open(context)
        self.seed = context.random_bytes(16)

    def properties(self) -> Mapping[str, Property]:
        return {"debug": json.dumps({"seed": self.seed.hex()})}


@fails("reconfigure")
class GoesDownWhenReconfigured(SoundQrng):
    abilities = ("reconfigure",)

    def reconfigure(self, settings: SoundSettings) -> None:
        self.context = None


@fails("read")
class HangsInRead(SoundQrng):
    def read(self, num_bytes: int) -> RawSamples:
        if self.context is not None:
            time.sleep(30)
        return super().read(num_bytes)


@fails("read-lengths")
class ReadsWholeBlocks(SoundQrng):
    def read(self, num_bytes: int) -> RawSamples:
        samples = super().read(num_bytes)
        return replace(samples, data=samples.data + bytes(-num_bytes % 16))


@fails("read-limits")
class ReadsNothing(SoundQrng):
    def read(self, num_bytes: int) -> RawSamples:
        return super().read(num_bytes) if num_bytes > 0 else RawSamples(b"", 8, 6.0)


@fails("not-constant")
class IsStuck(SoundQrng):
    def read(self, num_bytes: int) -> RawSamples:
        return RawSamples(b"\xaa" * len(super().read(num_bytes).data), 8, 6.0)


@fails("fresh")
class ReplaysItsBytes(SoundQrng):
    def open(self, context: DriverContext) -> None:
        super().open(context)
        self.number = 0

    def read(self, num_bytes: int) -> RawSamples:
        super().read(num_bytes)
        self.number += 1
        data = b"".join(
            ((self.number * 2_654_435_761 + i * 40_503) % 2**32).to_bytes(4, "big") for i in range(num_bytes)
        )
        return RawSamples(data[:num_bytes], 8, 1.0)


@fails("entropy-claim")
class ClaimsTooMuch(SoundQrng):
    def read(self, num_bytes: int) -> RawSamples:
        low = bytes(value & 15 for value in super().read(num_bytes).data)
        return RawSamples(low, 8, 7.5)


@fails("qpu-properties")
class CouplesQubitsItLacks(SoundQpu):
    def qpu_properties(self) -> QpuProperties:
        return replace(super().qpu_properties(), coupling=((0, 99),))


@fails("qpu-properties")
class TellsOfPlacesItLacks(SoundQpu):
    def qpu_properties(self) -> QpuProperties:
        there = OperationProperties("cx", 2, at=(OperationAt((0, 1)), OperationAt((3, 99))))
        return replace(super().qpu_properties(), operations=(there,))


@fails("qpu-properties")
class WasCalibratedNever(SoundQpu):
    def qpu_properties(self) -> QpuProperties:
        return replace(super().qpu_properties(), calibrated_at_s=float("nan"))


@fails("counts")
class LosesShots(SoundQpu):
    def result(self, job_id: str) -> QpuResult:
        found = super().result(job_id)
        first = next(iter(found.counts))
        return replace(found, counts={**found.counts, first: found.counts[first] - 1})


@fails("bit-order")
class ReadsBitsBackwards(SoundQpu):
    def shot(self, circuit: FlatCircuit, coin: Any) -> int:
        value, width = super().shot(circuit, coin), circuit.num_clbits
        return sum((value >> bit & 1) << (width - 1 - bit) for bit in range(width))


@fails("bell")
class CannotEntangle(SoundQpu):
    def shot(self, circuit: FlatCircuit, coin: Any) -> int:
        value = super().shot(circuit, coin)
        return coin.getrandbits(circuit.num_clbits) if any(len(op[1]) > 1 for op in circuit.ops) else value


@fails("seed")
class IgnoresTheSeed(SoundQpu):
    def submit(self, task: QpuTask) -> str:
        return super().submit(replace(task, seed=time.monotonic_ns()))


@fails("seed")
class HasOneSeed(SoundQpu):
    def submit(self, task: QpuTask) -> str:
        return super().submit(replace(task, seed=1))


@fails("unknown-gate")
class SkipsUnknownGates(SoundQpu):
    def check(self, task: QpuTask) -> None:
        ops = tuple(op for op in task.circuit.ops if op[0] < 100)
        super().check(replace(task, circuit=replace(task.circuit, ops=ops)))

    def shot(self, circuit: FlatCircuit, coin: Any) -> int:
        return super().shot(replace(circuit, ops=tuple(op for op in circuit.ops if op[0] < 100)), coin)


@fails("too-many-qubits")
class TakesAnySize(SoundQpu):
    def check(self, task: QpuTask) -> None:
        super().check(replace(task, circuit=replace(task.circuit, num_qubits=1)))


@fails("shots")
class RunsNoShots(SoundQpu):
    def check(self, task: QpuTask) -> None:
        super().check(replace(task, shots=max(task.shots, 1)))


@fails("estimate")
class EstimatesNonsense(SoundQpu):
    def estimate(self, task: QpuTask) -> QpuEstimate:
        return replace(super().estimate(task), time_s=float("inf"))


@fails("jobs")
class MindsUnknownJobs(SoundQpu):
    def cancel(self, job_id: str) -> None:
        self.found(job_id)


@fails("jobs")
class NeverForgets(SoundQpu):
    def free(self, job_id: str) -> None:
        return


@fails("block")
class NeverDetects(SoundQkd):
    def read_block(self, timeout_s: float) -> DetectionBlock | None:
        super().read_block(0.0)
        return None


@fails("block-shapes")
class ForgetsABasis(SoundQkd):
    def read_block(self, timeout_s: float) -> DetectionBlock | None:
        block = super().read_block(timeout_s)
        return block and replace(block, bases=block.bases[1:])


@fails("slots-increase")
class SeesTheSameSlotTwice(SoundQkd):
    def read_block(self, timeout_s: float) -> DetectionBlock | None:
        block = super().read_block(timeout_s)
        slots = array("Q", block.slots if block else b"")
        if block is None:
            return None
        slots[1] = slots[0]
        return replace(block, slots=slots.tobytes())


@fails("block-timeout")
class IgnoresItsTimeout(SoundQkd):
    def read_block(self, timeout_s: float) -> DetectionBlock | None:
        block = super().read_block(timeout_s)
        if block is None:
            time.sleep(3)
        return block


@fails("preparations")
class ChangesItsMind(SoundQkd):
    asked = 0

    def preparations(self, slots: bytes) -> Preparations:
        made = super().preparations(slots)
        self.asked += 1
        return replace(made, intensities=bytes([self.asked & 1]) * len(made.bits))


@fails("agreement")
class SharesNothing(SoundQkd):
    def preparations(self, slots: bytes) -> Preparations:
        made = super().preparations(slots)
        return replace(made, bits=bytes(hash((index, 3)) >> 4 & 1 for index in range(len(made.bits))))


@fails("roles")
class IsBothEnds(SoundQkd):
    def alice(self) -> None:
        self.opened()


@fails("keys")
class GivesOneKeyTwice(SoundKeySource):
    def take(self, number: int, size_bits: int) -> tuple[FinishedKey, ...]:
        return super().take(1, size_bits) * number
