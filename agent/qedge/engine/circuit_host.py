"""The target of circuit workers: program text in, counts out, by one QPU driver."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar, cast

import msgspec

from qedge.base.errors import ERROR_CODES, QedgeError
from qedge.engine.front_end import parse
from qedge.engine.qasm.model import ParseLimits, Program
from qedge.engine.qasm.template import Template
from qedge.workers.driver_host import DriverHost, lied
from qedge.workers.host import HostLink
from qedge.workers.model import Msg
from qedge_driver_api import (
    DriverInfo,
    DriverKind,
    FatalError,
    JobStatus,
    ProgramError,
    QpuDriver,
    QpuEstimate,
    QpuProperties,
    QpuResult,
    QpuTask,
)

T = TypeVar("T")

_CACHED_PROGRAMS: Final = 64
_CACHED_OPERATIONS: Final = 200_000
_WAIT_S: Final = 0.5
_MAX_METADATA: Final = 64
_MAX_LISTED: Final = 4096
_WARM_QUBITS: Final = 24
_WARM_PROGRAMS: Final = (
    # a state with feed-forward, and a wide one of the kind that has a method of its own
    "qreg q[3]; creg c[3]; h q[0]; cx q[0],q[1]; rz(0.3) q[2]; measure q[0]->c[0]; if(c==1) x q[2]; measure q->c;",
    f"qreg q[{_WARM_QUBITS}]; creg c[{_WARM_QUBITS}]; h q; measure q->c;",
)


@dataclass(frozen=True, slots=True)
class _Parsed:
    template: Template
    parse_s: float
    fixed: Program | None
    """The program, where it has no parameters and measures."""

    def program(self, args: Mapping[str, object]) -> Program:
        """Return the program with the parameters that a request gives."""
        values, measure_all = args.get("parameters") or {}, bool(args.get("measure_all"))
        if self.fixed is not None and not values:
            return self.fixed
        if not isinstance(values, Mapping):
            raise QedgeError("job.bad_request", "Parameters are numbers by name.")
        return self.template.bind(_numbers(values), measure_all=measure_all)


class CircuitHost(DriverHost):
    """A driver host that also parses: adds `prepare`, `run`, `warm` and `qpu_properties`.

    - `prepare {PROGRAM}` → `qubits`, `clbits`, `operations`, `memory_bytes`, `time_s`,
      `result_bytes`, `method`, `registers` as [name, size, offset], `parse_s`.
    - `run {PROGRAM, "seed"}` → `counts` {"keys": little-endian, ceil(clbits/8) bytes each and at
      least one, "values": [int]}, `clbits`, `registers`, `timings_s`, `metadata`.
    - `warm {}` loads what the first run would load. `qpu_properties {}` → the device.

    PROGRAM is `program`, `shots`, `limits`, `parameters` (numbers for the program's inputs) and `measure_all` (measure
    all qubits of a program that measures none). `limits` holds fields of `ParseLimits`; what is absent has its default.
    """

    def __init__(self, init: Mapping[str, object], link: HostLink) -> None:
        super().__init__(init, link)
        self._stopped: Callable[[], bool] = link.cancelled
        self._info: DriverInfo | None = None
        self._parsed: OrderedDict[bytes, _Parsed] = OrderedDict()
        self.add_method("prepare", self._prepare)
        self.add_method("run", self._run)
        self.add_method("warm", self._warm)
        self.add_method("qpu_properties", self._qpu_properties)

    def _qpu(self) -> QpuDriver:
        if self._info is None:
            # a description is read off type hints, which takes longer than a small circuit
            self._of_kind(DriverKind.QPU)
            self._info = self._class.describe()
        return cast("QpuDriver", self.driver)

    def _program(self, args: Mapping[str, object]) -> _Parsed:
        text = args.get("program")
        if not isinstance(text, str):
            raise QedgeError("job.bad_request", "The program has to be text.")
        try:
            limits = msgspec.convert(args.get("limits") or {}, ParseLimits)
        except msgspec.ValidationError as error:
            raise QedgeError("job.bad_request", f"The limits cannot be read: {error}.") from error
        if len(text) > limits.max_text_bytes:
            parse(text, limits)  # raises, before such a text is hashed
        try:
            key = hashlib.sha256(msgspec.msgpack.encode((text, limits))).digest()
        except UnicodeEncodeError as error:
            raise QedgeError("job.bad_request", "The program is not valid Unicode text.") from error
        known = self._parsed.get(key)
        if known is not None:
            self._parsed.move_to_end(key)
            return known
        started = time.perf_counter()
        template = parse(text, limits)
        fixed = template.bind({}) if template.measured and not template.parameters else None
        parsed = self._parsed[key] = _Parsed(template, time.perf_counter() - started, fixed)
        while len(self._parsed) > 1 and (
            len(self._parsed) > _CACHED_PROGRAMS
            or sum(len(each.template.stream) for each in self._parsed.values()) > _CACHED_OPERATIONS
        ):
            self._parsed.popitem(last=False)
        return parsed

    def _prepare(self, args: Mapping[str, object]) -> Msg:
        parsed = self._program(args)
        program = parsed.program(args)
        circuit = program.circuit
        shots = _shots(args)
        task = QpuTask(circuit, shots, 0)
        estimate = _program_errors(lambda: self._qpu().estimate(task))
        _check_estimate(estimate)
        return {
            "qubits": circuit.num_qubits,
            "clbits": circuit.num_clbits,
            "operations": len(circuit.ops),
            "memory_bytes": int(estimate.memory_bytes),
            "time_s": float(estimate.time_s),
            "result_bytes": shots_bound(circuit.num_clbits, shots) * (_key_bytes(circuit.num_clbits) + 8),
            "method": str(estimate.method),
            "registers": _registers(program),
            "parse_s": parsed.parse_s,
        }

    def _run(self, args: Mapping[str, object]) -> Msg:
        started = time.perf_counter()
        program = self._program(args).program(args)
        circuit = program.circuit
        shots = _shots(args)
        task = QpuTask(circuit, shots, _seed(args))
        begun = time.perf_counter()
        result = _program_errors(lambda: self._execute(task))
        ended = time.perf_counter()
        counts = pack_counts(result, circuit.num_clbits, shots)
        metadata, timings = sort_metadata(result)
        timings |= {"parse": begun - started, "run": ended - begun, "encode": time.perf_counter() - ended}
        metadata["driver"] = self._info.name if self._info else ""
        # a driver that wraps others' devices knows only when it runs whether one is simulated
        metadata["simulated"] = bool(metadata.get("simulated") or (self._info and self._info.simulated))
        return {
            "counts": counts,
            "clbits": circuit.num_clbits,
            "registers": _registers(program),
            "timings_s": timings,
            "metadata": metadata,
        }

    def _execute(self, task: QpuTask) -> QpuResult:
        """Drive a job to its end; a call that is no longer wanted cancels it."""
        qpu = self._qpu()
        job_id = qpu.submit(task)
        try:
            # a job that has ended by itself says so at once
            status = qpu.wait(job_id, 0.0)
            while status not in (JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED):
                if not isinstance(status, JobStatus):
                    raise lied("a job status is no JobStatus")
                if self._stopped():
                    qpu.cancel(job_id)
                    raise QedgeError("job.cancelled", "The job was cancelled.")
                status = qpu.wait(job_id, _WAIT_S)
            if status is JobStatus.CANCELLED:
                raise QedgeError("job.cancelled", "The job was cancelled.")
            # for a job that failed this raises the driver's own error
            result = qpu.result(job_id)
            if status is JobStatus.FAILED:
                raise FatalError("the job failed, and the driver gave no reason")
        finally:
            qpu.free(job_id)
        if not isinstance(result, QpuResult):
            raise lied("a result is no QpuResult")
        return result

    def _warm(self, _args: Mapping[str, object]) -> Msg:
        started = time.perf_counter()
        qpu = self._qpu()
        for text in _WARM_PROGRAMS:
            task = QpuTask(parse(f'OPENQASM 2.0; include "qelib1.inc"; {text}', ParseLimits()).bind({}).circuit, 16, 1)
            # a device may be too small or too special for these programs
            with contextlib.suppress(ProgramError):
                qpu.estimate(task)
                # a real device would take its queue and its price for a run
                if self._info is not None and self._info.simulated:
                    self._execute(task)
        return {"warm_s": time.perf_counter() - started}

    def _qpu_properties(self, _args: Mapping[str, object]) -> Msg:
        found = self._qpu().qpu_properties()
        if not isinstance(found, QpuProperties) or not isinstance(found.num_qubits, int) or found.num_qubits < 1:
            raise lied("qpu_properties gave no QpuProperties")
        numbers = [value for site in found.sites for value in (site.t1_us, site.t2_us, site.readout_error)]
        numbers += [value for each in found.operations for value in (each.duration_us, each.fidelity)]
        if not all(isinstance(value, (int, float)) and math.isfinite(value) and value >= 0 for value in numbers):
            raise lied("a property of a site or operation is not a finite number from 0 on")
        if not all(0 <= qubit < found.num_qubits for pair in found.coupling for qubit in pair):
            raise lied("the coupling names a qubit that is not there")
        return {
            "name": str(found.name),
            "num_qubits": found.num_qubits,
            "status": str(found.status),
            "queue_length": int(found.queue_length),
            "max_shots": int(found.max_shots),
            "coupling": [list(pair) for pair in found.coupling[:_MAX_LISTED]],
            "operations": [
                {
                    "name": each.name,
                    "num_qubits": each.num_qubits,
                    "duration_us": float(each.duration_us),
                    "fidelity": float(each.fidelity),
                }
                for each in found.operations[:_MAX_LISTED]
            ],
            "sites": [
                {
                    "index": site.index,
                    "t1_us": float(site.t1_us),
                    "t2_us": float(site.t2_us),
                    "readout_error": float(site.readout_error),
                }
                for site in found.sites[:_MAX_LISTED]
            ],
        }


def pack_counts(result: QpuResult, num_clbits: int, shots: int) -> Msg:
    """Check counts (`driver.lied` where they cannot be true) and pack them for the way to the daemon."""
    counts = result.counts
    if not isinstance(counts, Mapping):
        raise lied("counts are no mapping")
    total = 0
    bound = 1 << num_clbits
    for key, value in counts.items():
        if type(key) is not int or type(value) is not int:
            raise lied("counts map whole numbers to whole numbers")
        if not 0 <= key < bound:
            raise lied(f"a count for a value of more than {num_clbits} bits")
        if value < 1:
            raise lied(f"a count of {value}")
        total += value
    if total != shots:
        raise lied(f"counts sum to {total} instead of {shots} shots")
    width = _key_bytes(num_clbits)
    return {
        "keys": b"".join([key.to_bytes(width, "little") for key in counts]),
        "values": list(counts.values()),
    }


def sort_metadata(result: QpuResult) -> tuple[dict[str, Msg], dict[str, Msg]]:
    """Return `(metadata, timings)` of a result; what ends in `_s` is a timing in seconds."""
    if not isinstance(result.metadata, Mapping):
        raise lied("result metadata are no mapping")
    metadata: dict[str, Msg] = {}
    timings: dict[str, Msg] = {}
    for name, value in list(result.metadata.items())[:_MAX_METADATA]:
        if not isinstance(value, (str, int, float, bool)) or (isinstance(value, float) and not math.isfinite(value)):
            raise lied(f"result metadata {name} is {value!r}"[:200])
        if isinstance(value, float) and name.endswith("_s"):
            timings[str(name).removesuffix("_s")] = value
        else:
            metadata[str(name)] = value
    return metadata, timings


def shots_bound(num_clbits: int, shots: int) -> int:
    """Return how many different values `shots` shots can give at most."""
    return min(shots, 1 << min(num_clbits, 40))


def _key_bytes(num_clbits: int) -> int:
    return max(1, -(-num_clbits // 8))


def _numbers(values: Mapping[object, object]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, (int, float)):
            raise QedgeError("job.bad_request", "Parameters are numbers by name.")
        if not math.isfinite(value):
            raise QedgeError("circuit.nonfinite_parameter", f"The parameter {name[:40]} is not a finite number.")
        numbers[name] = float(value)
    return numbers


def _registers(program: Program) -> Msg:
    return [[row.name, row.size, row.offset] for row in program.registers]


def _shots(args: Mapping[str, object]) -> int:
    shots = args.get("shots")
    if type(shots) is not int or shots < 1:
        raise QedgeError("job.bad_shots", "The number of shots has to be a whole number of at least 1.")
    return shots


def _seed(args: Mapping[str, object]) -> int:
    seed = args.get("seed")
    if type(seed) is not int or not 0 <= seed < 1 << 32:
        raise QedgeError("job.bad_request", "The seed has to be a whole number from 0 to 2^32 - 1.")
    return seed


def _check_estimate(estimate: QpuEstimate) -> None:
    if not isinstance(estimate, QpuEstimate):
        raise lied("an estimate is no QpuEstimate")
    for value in (estimate.memory_bytes, estimate.time_s):
        if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise lied(f"an estimate of {value!r}"[:100])


def _program_errors(run: Callable[[], T]) -> T:
    """Give a driver's refusal of a program the node's code for it."""
    try:
        return run()
    except ProgramError as error:
        for family in ("circuit", "job"):
            if f"{family}.{error.code}" in ERROR_CODES:
                raise QedgeError(f"{family}.{error.code}", f"The QPU refused: {error}.", reason=error.code) from error
        raise QedgeError("circuit.unsupported", f"The QPU refused: {error}.", reason=error.code) from error
    except MemoryError as error:
        raise QedgeError("job.too_much_memory", "The job needs more memory than this worker may take.") from error
