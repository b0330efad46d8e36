"""The target of circuit workers: program text in, counts out, by one QPU driver."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

import msgspec

from qedge.base.errors import QedgeError
from qedge.engine.assessment.measuring import Stand, measure
from qedge.engine.believing import check_result, pack_counts, pack_device, sort_metadata
from qedge.engine.front_end import parse
from qedge.engine.kinds.model import Bench, Forecast, program_errors
from qedge.engine.kinds.table import kind_of
from qedge.engine.mapping import Mapped, errors_of, fits, map_to
from qedge.engine.qasm.model import ParseLimits, Program
from qedge.engine.qasm.template import Template
from qedge.wire.tasks import AmplitudeTask, ExpectationTask, KernelTask, SampleTask, Task
from qedge.workers.driver_host import DriverHost, lied
from qedge.workers.host import HostLink, step_back
from qedge.workers.model import Msg
from qedge_driver_api import (
    Calibrating,
    DriverError,
    DriverInfo,
    DriverKind,
    FatalError,
    FlatCircuit,
    JobStatus,
    ProgramError,
    PropertyValue,
    QpuDriver,
    QpuProperties,
    QpuResult,
    QpuTask,
)

_CACHED_PROGRAMS: Final = 64
_CACHED_OPERATIONS: Final = 200_000
_CACHED_CHARS: Final = 4 << 20
_MAPPED: Final = 8
_WAIT_S: Final = 0.5
_COUNT: Final = SampleTask()
_NEED_PROGRAM: Final = (SampleTask, ExpectationTask, AmplitudeTask, KernelTask)
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


class CircuitHost(DriverHost):
    """A driver host that also parses: adds `prepare`, `run`, `warm` and `qpu_properties`.

    - `prepare {PROGRAM}` → `qubits`, `clbits`, `operations`, `memory_bytes`, `time_s`,
      `result_bytes`, `method`, `registers` as [name, size, offset], `parse_s`. With `"at_once": {"time_s",
      "memory_bytes", "result_bytes"}` and `"seed"`, a task that fits in them is run as well where the QPU is simulated:
      `answer` is what `run` would give, `perform_s` what it took.
    - `run {PROGRAM, "seed", "background"}` → `counts` {"keys": little-endian, ceil(clbits/8) bytes each and at
      least one, "values": 8 bytes each in this machine's order} or none, `clbits`, `registers`, `timings_s`,
      `metadata`, `data` (a `TaskResult`).
      `background`: from now on the process gets a small share of the processor, where others want it.
    - `inspect {"program", "limits"}` → `inputs`, `qubits`, `measured`, of a program that is read and no more.
    - `warm {}` loads what the first run would load. `qpu_properties {}` → the device.
    - `assess {"step", …}` → what a step of an assessment gave, see `measure`.

    PROGRAM is `program`, `task` (a `Task`; none: count outcomes), `shots`, `limits`, `parameters` (numbers for the
    inputs of the program), `measure_all` (measure all qubits of a program that measures none), `options` for the
    driver. `limits` holds fields of `ParseLimits`; what is absent has its default.
    """

    def __init__(self, init: Mapping[str, object], link: HostLink) -> None:
        super().__init__(init, link)
        self._stopped: Callable[[], bool] = link.cancelled
        self._info: DriverInfo | None = None
        self._device: QpuProperties | None = None
        self._mapped: list[tuple[FlatCircuit, Mapped]] = []
        # by the text itself: to digest it takes longer than to look it up
        self._parsed: OrderedDict[tuple[str, ParseLimits], _Parsed] = OrderedDict()
        self._cached_operations = 0
        self._cached_chars = 0
        self._lowered = False
        self.add_method("prepare", self._prepare)
        self.add_method("run", self._run)
        self.add_method("inspect", self._inspect)
        self.add_method("warm", self._warm)
        self.add_method("assess", self._assess)
        self.add_method("qpu_properties", self._qpu_properties)

    def handle(self, method: str, args: Mapping[str, object]) -> Msg:
        """See `Target.handle`; a device that was opened or changed may be another one."""
        if method in ("open", "reconfigure"):
            self._device = None
            self._mapped.clear()
        return super().handle(method, args)

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
        known = self._parsed.get((text, limits))
        if known is not None:
            self._parsed.move_to_end((text, limits))
            return known
        if not _is_unicode(text):
            raise QedgeError("job.bad_request", "The program is not valid Unicode text.")
        started = time.perf_counter()
        template = parse(text, limits)
        fixed = template.bind({}) if template.measured and not template.parameters else None
        parsed = _Parsed(template, time.perf_counter() - started, fixed)
        self._keep(text, limits, parsed)
        return parsed

    def _keep(self, text: str, limits: ParseLimits, parsed: _Parsed) -> None:
        self._parsed[text, limits] = parsed
        self._cached_operations += len(parsed.template.stream)
        self._cached_chars += len(text)
        while len(self._parsed) > 1 and (
            len(self._parsed) > _CACHED_PROGRAMS
            or self._cached_operations > _CACHED_OPERATIONS
            or self._cached_chars > _CACHED_CHARS
        ):
            (oldest, _), gone = self._parsed.popitem(last=False)
            self._cached_operations -= len(gone.template.stream)
            self._cached_chars -= len(oldest)

    def _bench(self, args: Mapping[str, object], seed: int) -> tuple[Bench, Task, float]:
        """Return what a task works with, the task, and the seconds that its program took to parse."""
        try:
            task: Task = msgspec.convert(args["task"], Task) if args.get("task") else _COUNT
        except msgspec.ValidationError as error:
            raise QedgeError("job.bad_request", f"The task cannot be read: {error}.") from error
        parsed = self._program(args) if args.get("program") or isinstance(task, _NEED_PROGRAM) else None
        options = args.get("options") or {}
        bench = Bench(
            qpu=self._qpu(),
            execute=self._execute,
            fit=self._fitted,
            cancelled=self._stopped,
            template=parsed.template if parsed else None,
            fixed=parsed.fixed if parsed else None,
            parameters=_numbers(args.get("parameters") or {}),
            measure_all=bool(args.get("measure_all")),
            shots=_shots(args),
            seed=seed,
            options=cast("Mapping[str, PropertyValue]", options) if isinstance(options, Mapping) else {},
        )
        return bench, task, parsed.parse_s if parsed else 0.0

    def _prepare(self, args: Mapping[str, object]) -> Msg:
        started = time.perf_counter()
        at_once = args.get("at_once")
        bench, task, parse_s = self._bench(args, _seed(args) if at_once else 0)
        forecast = kind_of(type(task)).forecast(bench, task)
        answer: dict[str, Msg] = {
            "qubits": forecast.qubits,
            "clbits": forecast.clbits,
            "operations": forecast.operations,
            "memory_bytes": forecast.memory_bytes,
            "time_s": forecast.time_s,
            "result_bytes": forecast.result_bytes,
            "method": forecast.method,
            "registers": [[row.name, row.size, row.offset] for row in forecast.registers],
            "parse_s": parse_s,
        }
        # of a real device nothing is asked that nobody has accepted
        if isinstance(at_once, Mapping) and self._info and self._info.simulated and _within(forecast, at_once):
            begun = time.perf_counter()
            # one that fails is run again as a job, which then says so
            with contextlib.suppress(QedgeError, DriverError):
                answer["answer"] = self._perform(bench, task, begun - started)
                answer["perform_s"] = time.perf_counter() - begun
        return answer

    def _inspect(self, args: Mapping[str, object]) -> Msg:
        template = self._program(args).template
        return {"inputs": list(template.parameters), "qubits": template.num_qubits, "measured": template.measured}

    def _run(self, args: Mapping[str, object]) -> Msg:
        started = time.perf_counter()
        if args.get("background") and not self._lowered:
            self._lowered = True
            step_back()
        bench, task, _ = self._bench(args, _seed(args))
        return self._perform(bench, task, time.perf_counter() - started)

    def _perform(self, bench: Bench, task: Task, parse_s: float) -> Msg:
        begun = time.perf_counter()
        outcome = program_errors(lambda: kind_of(type(task)).perform(bench, task))
        ended = time.perf_counter()
        metadata, timings = sort_metadata(outcome.metadata)
        answer: dict[str, Msg] = {
            "counts": None if outcome.counts is None else pack_counts(outcome.counts, outcome.clbits),
            "clbits": outcome.clbits,
            "registers": [[row.name, row.size, row.offset] for row in outcome.registers],
            "metadata": metadata,
            "timings_s": timings,
        }
        if outcome.data is not None:
            answer["data"] = cast("Msg", msgspec.to_builtins(outcome.data, builtin_types=(bytes,)))
        timings |= {"parse": parse_s, "run": ended - begun, "encode": time.perf_counter() - ended}
        metadata.setdefault("driver", self._info.name if self._info else "")
        # a driver that wraps others' devices knows only when it runs whether one is simulated
        metadata["simulated"] = bool(metadata.get("simulated") or (self._info and self._info.simulated))
        return answer

    def _mapping(self, circuit: FlatCircuit) -> Mapped | None:
        """Return the circuit as the device can run it, None where it can as it stands; the last few are kept."""
        if self._device is None:
            self._device = self._qpu().qpu_properties()
        coupling, num_qubits = self._device.coupling, self._device.num_qubits
        if not coupling or fits(circuit, coupling, num_qubits):
            return None
        for known, mapped in self._mapped:
            if known is circuit:
                return mapped
        mapped = map_to(circuit, coupling, num_qubits, errors_of(self._device))
        self._mapped = [(circuit, mapped), *self._mapped[: _MAPPED - 1]]
        return mapped

    def _fitted(self, task: QpuTask) -> QpuTask:
        """Return the task with a circuit that the device can run."""
        mapped = self._mapping(task.circuit)
        return task if mapped is None else dataclasses.replace(task, circuit=mapped.circuit)

    def _execute(self, asked: QpuTask) -> QpuResult:
        """Drive a job to its end; a call that is no longer wanted cancels it."""
        qpu = self._qpu()
        task = self._fitted(asked)
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
        check_result(result, task.circuit.num_clbits, task.shots)
        if task is asked:
            return result
        mapped = self._mapping(asked.circuit)
        facts = (
            {}
            if mapped is None
            else {"mapped": True, "pairs_before": mapped.pairs_before, "pairs_after": mapped.pairs_after}
        )
        return dataclasses.replace(result, metadata={**result.metadata, **facts})

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
        if isinstance(qpu, Calibrating):
            qpu.calibrate()
        # what is loaded by now stays; looking through it again and again is most of what collection costs
        gc.collect()
        gc.freeze()
        return {"warm_s": time.perf_counter() - started}

    def _assess(self, args: Mapping[str, object]) -> Msg:
        qpu = self._qpu()
        simulated = self._info is not None and self._info.simulated
        stand = Stand(
            execute=lambda task: program_errors(lambda: self._execute(task)),
            estimate=lambda task: program_errors(lambda: qpu.estimate(self._fitted(task))),
            num_qubits=qpu.qpu_properties().num_qubits,
            simulated=simulated,
        )
        return cast("Msg", measure(stand, str(args.get("step", "")), args))

    def _qpu_properties(self, _args: Mapping[str, object]) -> Msg:
        return pack_device(self._qpu().qpu_properties())


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _numbers(values: object) -> dict[str, float]:
    if not isinstance(values, Mapping):
        raise QedgeError("job.bad_request", "Parameters are numbers by name.")
    if set(map(type, values)) - {str} or set(map(type, values.values())) - {int, float}:
        raise QedgeError("job.bad_request", "Parameters are numbers by name.")
    # a sum is finite only where everything in it is
    if not (math.isfinite(sum(values.values())) or all(map(math.isfinite, values.values()))):
        wrong = next(name for name, value in values.items() if not math.isfinite(value))
        raise QedgeError("circuit.nonfinite_parameter", f"The parameter {wrong[:40]} is not a finite number.")
    return dict(values)


def _within(forecast: Forecast, bounds: Mapping[str, object]) -> bool:
    wanted = {"time_s": forecast.time_s, "memory_bytes": forecast.memory_bytes, "result_bytes": forecast.result_bytes}
    found = {name: bounds.get(name) for name in wanted}
    return all(isinstance(limit, (int, float)) and wanted[name] <= limit for name, limit in found.items())


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
