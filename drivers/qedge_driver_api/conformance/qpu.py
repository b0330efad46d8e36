"""Checks of QPUs. Statistics leave room for noise; what they catch is a device that answers wrongly."""

from __future__ import annotations

import math
from typing import Any, Final

from qedge_driver_api.circuit import FlatCircuit, Gate, Op
from qedge_driver_api.conformance.report import FailedError, SkippedError
from qedge_driver_api.conformance.stand import Check, Stand, describe_error, expect, refuses
from qedge_driver_api.errors import DriverError, ProgramError
from qedge_driver_api.qpu import (
    DeviceStatus,
    JobStatus,
    OperationProperties,
    ProgramFormat,
    QpuEstimate,
    QpuProperties,
    QpuResult,
    QpuTask,
)

_SHOTS: Final = 1000
_WAIT_S: Final = 600.0
_MIN_RIGHT: Final = 0.7
"""Share of shots that must show what the state predicts; a random device shows 2^(1−n)."""
_MIN_EACH: Final = 0.2
"""Least share of each of two outcomes that are equally likely."""
_UNKNOWN_GATE: Final = 250


def _h(qubit: int) -> Op:
    return (Gate.H, (qubit,), (), 0)


def _x(qubit: int) -> Op:
    return (Gate.X, (qubit,), (), 0)


def _cx(control: int, target: int) -> Op:
    return (Gate.CX, (control, target), (), 0)


def _measured(num_qubits: int, *ops: Op) -> FlatCircuit:
    measures: list[Op] = [(Gate.MEASURE, (qubit,), (), qubit) for qubit in range(num_qubits)]
    return FlatCircuit(num_qubits, num_qubits, (*ops, *measures))


def _task(circuit: FlatCircuit, shots: int = _SHOTS, seed: int = 1) -> QpuTask:
    return QpuTask(circuit, shots, seed)


def _run(driver: Any, task: QpuTask) -> QpuResult:  # any QpuDriver
    job = driver.submit(task)
    expect(isinstance(job, str) and bool(job), f"submit() gave {job!r:.80} instead of a job id")
    status = driver.wait(job, _WAIT_S)
    expect(status == JobStatus.DONE, f"a good job ended as {status}")
    result = driver.result(job)
    driver.free(job)
    if not isinstance(result, QpuResult):
        raise FailedError(f"result() gave a {type(result).__name__} instead of a QpuResult")
    return result


def _properties_of(driver: Any) -> QpuProperties:  # any QpuDriver
    properties = driver.qpu_properties()
    if not isinstance(properties, QpuProperties):
        raise FailedError(f"qpu_properties() gave a {type(properties).__name__} instead of QpuProperties")
    return properties


def _properties(stand: Stand) -> None:
    with stand.opened() as driver:
        told = _properties_of(driver)
    number = told.num_qubits
    expect(isinstance(number, int) and number >= 1, f"num_qubits is {number!r}")
    expect(isinstance(told.status, DeviceStatus), f"status is {told.status!r} and no DeviceStatus")
    expect(ProgramFormat.FLAT in told.formats, "formats lack FLAT, which every QPU takes")
    expect(told.max_shots >= 1 and told.queue_length >= 0, "max_shots or queue_length is out of range")
    expect([site.index for site in told.sites] == list(range(len(told.sites))), "sites are not numbered from 0")
    expect(len(told.sites) in (0, number), f"{len(told.sites)} sites for {number} qubits")
    for site in told.sites:
        times_good = site.t1_us >= 0 and site.t2_us >= 0 and (site.t1_us == 0 or site.t2_us <= 2 * site.t1_us * 1.001)
        expect(times_good, f"site {site.index}: T1 {site.t1_us} us and T2 {site.t2_us} us cannot be")
        expect(0 <= site.readout_error <= 1, f"site {site.index}: readout_error {site.readout_error}")
    for operation in told.operations:
        _operation_can_be(operation, number)
    names = [operation.name for operation in told.operations]
    expect(len(set(names)) == len(names), "an operation is listed twice")
    sane = math.isfinite(told.calibrated_at_s) and told.calibrated_at_s >= 0
    expect(sane, f"calibrated_at_s is {told.calibrated_at_s!r}; expected seconds since 1970, or 0")
    pairs = all(0 <= one < number and 0 <= other < number and one != other for one, other in told.coupling)
    expect(pairs, "a coupled pair names a qubit that is not there, or one twice")


def _operation_can_be(operation: OperationProperties, number: int) -> None:
    expect(operation.num_qubits >= 0 and operation.num_parameters >= 0, f"operation {operation.name}: a negative size")
    values = [
        (operation.fidelity, operation.duration_us),
        *((each.fidelity, each.duration_us) for each in operation.at),
    ]
    good = all(0 <= fidelity <= 1 and 0 <= duration_us < math.inf for fidelity, duration_us in values)
    expect(good, f"operation {operation.name}: a value is out of range")
    for each in operation.at:
        there = all(0 <= qubit < number for qubit in each.qubits) and len(set(each.qubits)) == len(each.qubits)
        there = there and operation.num_qubits in (0, len(each.qubits))
        expect(there, f"operation {operation.name} on {each.qubits}: these are not {operation.num_qubits} qubits")
    places = [each.qubits for each in operation.at]
    expect(len(set(places)) == len(places), f"operation {operation.name}: a place is listed twice")


def _runs(stand: Stand) -> None:
    with stand.opened() as driver:
        _run(driver, _task(_measured(1, _x(0)), 10))


def _counts(stand: Stand) -> None:
    with stand.opened() as driver:
        for shots in (1, 7, _SHOTS):
            result = _run(driver, _task(_measured(2, _h(0)), shots))
            total = sum(result.counts.values())
            expect(result.shots == shots and total == shots, f"{shots} shots gave {total} counts of {result.shots}")
            keys = all(isinstance(key, int) and 0 <= key < 4 for key in result.counts)
            expect(keys, f"2 classical bits gave the values {sorted(result.counts)[:5]}")
            expect(all(number >= 0 for number in result.counts.values()), "a count is negative")
            expect(bool(result.metadata.get("method")), "the metadata lack the method")


def _bit_order(stand: Stand) -> None:
    with stand.opened() as driver:
        for qubit, value in ((0, 1), (1, 2)):
            counts = _run(driver, _task(_measured(2, _x(qubit)))).counts
            most = max(counts, key=lambda key: counts[key])
            expect(most == value, f"X on qubit {qubit}: most shots read {most}, expected {value}")
        swapped: tuple[Op, ...] = (_x(0), (Gate.MEASURE, (0,), (), 1))
        counts = _run(driver, _task(FlatCircuit(1, 2, swapped))).counts
        most = max(counts, key=lambda key: counts[key])
        expect(most == 2, f"qubit 0 in state 1 measured into bit 1 of 2: most shots read {most}, expected 2")


def _entangled(stand: Stand, size: int) -> None:
    with stand.opened() as driver:
        if _properties_of(driver).num_qubits < size:
            raise SkippedError(f"the device has fewer than {size} qubits")
        ops = (_h(0), *(_cx(qubit, qubit + 1) for qubit in range(size - 1)))
        try:
            counts = _run(driver, _task(_measured(size, *ops))).counts
        except ProgramError as error:
            raise SkippedError(f"the device does not run it: {error}") from error
    zeros, ones = counts.get(0, 0) / _SHOTS, counts.get(2**size - 1, 0) / _SHOTS
    expect(zeros + ones >= _MIN_RIGHT, f"only {zeros + ones:.0%} of the shots are all 0 or all 1")
    expect(min(zeros, ones) >= _MIN_EACH, f"{zeros:.0%} all 0 and {ones:.0%} all 1; expected about equal shares")


def _seeded(stand: Stand) -> None:
    if not stand.info.simulated:
        raise SkippedError("the device is no simulator")
    circuit = _measured(3, _h(0), _h(1), _h(2))
    with stand.opened() as driver:
        once, again = (dict(_run(driver, _task(circuit, seed=7)).counts) for _ in range(2))
        others = [dict(_run(driver, _task(circuit, seed=seed)).counts) for seed in (8, 9, 10)]
    expect(once == again, "the same seed gave other counts")
    expect(any(other != once for other in others), "other seeds gave the same counts")


def _refused(stand: Stand, circuit: FlatCircuit, what: str, shots: int = _SHOTS) -> None:
    with stand.opened() as driver:

        def run() -> object:
            job = driver.submit(_task(circuit, shots))
            driver.wait(job, _WAIT_S)
            return driver.result(job)

        refuses(run, what, ProgramError)


def _unknown_gate(stand: Stand) -> None:
    unknown: Op = (_UNKNOWN_GATE, (0,), (), 0)
    _refused(stand, _measured(1, unknown), "an operation code that does not exist")


def _too_many_qubits(stand: Stand) -> None:
    with stand.opened() as driver:
        number = _properties_of(driver).num_qubits + 1
    _refused(stand, _measured(number, *(_h(qubit) for qubit in range(number))), f"a circuit of {number} qubits")


def _shots(stand: Stand) -> None:
    with stand.opened() as driver:
        most = _properties_of(driver).max_shots
    for shots in (0, -1, most + 1):
        _refused(stand, _measured(1, _x(0)), f"{shots} shots", shots)


def _estimate(stand: Stand) -> None:
    with stand.opened() as driver:
        small = driver.estimate(_task(_measured(2, _h(0), _cx(0, 1))))
    if not isinstance(small, QpuEstimate):
        raise FailedError(f"estimate() gave a {type(small).__name__} instead of a QpuEstimate")
    expect(isinstance(small.memory_bytes, int) and small.memory_bytes >= 0, f"memory_bytes is {small.memory_bytes!r}")
    sane = isinstance(small.time_s, (int, float)) and math.isfinite(small.time_s) and 0 <= small.time_s < 1e6
    expect(sane, f"time_s is {small.time_s!r}; expected seconds")
    expect(isinstance(small.method, str) and bool(small.method), "the estimate names no method")


def _housekeeping(stand: Stand) -> None:
    with stand.opened() as driver:
        for call in (driver.cancel, driver.free):
            try:
                call("no-such-job")
            except Exception as error:
                raise FailedError(f"{call.__name__}() of an unknown job: {describe_error(error)}") from error
        refuses(lambda: driver.result("no-such-job"), "result() of an unknown job")
        job = driver.submit(_task(_measured(1, _x(0)), 10))
        status = driver.wait(job, 0.0)
        expect(isinstance(status, JobStatus), f"wait(job, 0) gave {status!r} and no JobStatus")
        expect(driver.wait(job, _WAIT_S) == JobStatus.DONE, "a good job did not end")
        try:
            driver.cancel(job)
        except DriverError as error:
            raise FailedError(f"cancel() of an ended job: {describe_error(error)}") from error
        driver.free(job)
        refuses(lambda: driver.result(job), "result() after free()")


CHECKS: Final = (
    Check("qpu-properties", "describes its device with values that can be", _properties, ("open",)),
    Check("run", "runs a circuit", _runs, ("open", "qpu-properties")),
    Check("counts", "gives one count a shot, below 2^bits, and names its method", _counts, ("run",)),
    Check("bit-order", "reads classical bit 0 as the least significant", _bit_order, ("counts",)),
    Check("bell", "shows a Bell pair", lambda stand: _entangled(stand, 2), ("bit-order",)),
    Check("ghz", "shows a GHZ state of four qubits", lambda stand: _entangled(stand, 4), ("bell",)),
    Check("seed", "repeats itself for the same seed, and only for it", _seeded, ("counts",)),
    Check("unknown-gate", "refuses unknown operations with ProgramError", _unknown_gate, ("run",)),
    Check("too-many-qubits", "refuses circuits that are too large with ProgramError", _too_many_qubits, ("run",)),
    Check("shots", "refuses no shots and too many shots with ProgramError", _shots, ("run",)),
    Check("estimate", "estimates memory, time and method", _estimate, ("run",)),
    Check("jobs", "ignores unknown jobs in cancel and free, and forgets freed ones", _housekeeping, ("run",)),
)
