"""The QPUs of the node: which one takes a job, and what it says a program will cost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.engine.admission import admit, budget, check_length, check_request
from qedge.engine.config import EngineConfig
from qedge.engine.model import RUNNER_DIED, Job
from qedge.engine.ports import Memory, QpuPort
from qedge.engine.queue import CLASSES
from qedge.wire.jobs import JobEstimate, JobSubmission, LatencyClass
from qedge.workers.model import Msg

_AT_ONCE: Final[Mapping[str, Msg]] = {"time_s": 0.005, "memory_bytes": 32 * 2**20, "result_bytes": 48 * 1024}
"""What is done while it is looked at: less than the way there and back again is worth."""
_AT_ONCE_LIMIT_S: Final = 2.0
_AT_ONCE_CHARS: Final = 64 * 1024
"""A longer program is no short job; to read it may take longer than short jobs may, where the box is busy."""

_UNTRUE_S: Final = 60.0
_UNTRUE: Final = frozenset({"worker.deadline", "worker.bad_answer"})
"""How a run ends whose QPU did not do what it foretold."""


@dataclass(frozen=True, slots=True)
class Assessed:
    """What the QPU `qpu` said of a request; `answer` is the worker's where it ran it in `perform_s` seconds at once."""

    estimate: JobEstimate
    parse_s: float
    perform_s: float
    qpu: str
    answer: Msg


class QpuRoster:
    """Knows how many jobs each QPU runs, and asks one of them before a job is accepted."""

    def __init__(self, config: EngineConfig, qpus: Callable[[], Sequence[QpuPort]], memory: Memory) -> None:
        self._config = config
        self._qpus = qpus
        self._memory = memory
        self._loads: Counter[str] = Counter()
        self._batch: Counter[str] = Counter()
        self._express: Counter[str] = Counter()
        self._untrue: dict[str, float] = {}
        """QPUs that hung, or answered badly, and until when nothing is run on them at once."""

        self._change = asyncio.Event()

    def changed(self) -> None:
        """Wake those who wait for a QPU: one came up or went down."""
        self._change.set()

    def take(self, qpu: QpuPort, latency: LatencyClass = LatencyClass.INTERACTIVE, *, express: bool = False) -> None:
        """Count a job that starts on a QPU, or beside its other jobs on a spare worker."""
        self._count(qpu, latency, express, 1)

    def give_back(
        self, qpu: QpuPort, latency: LatencyClass = LatencyClass.INTERACTIVE, *, express: bool = False
    ) -> None:
        """Count a job that left a QPU."""
        self._count(qpu, latency, express, -1)

    def _count(self, qpu: QpuPort, latency: LatencyClass, express: bool, change: int) -> None:
        if express:
            self._express[qpu.name] += change
            return
        self._loads[qpu.name] += change
        if latency is LatencyClass.BATCH:
            self._batch[qpu.name] += change

    def slots(self) -> tuple[int, int]:
        """Return how many jobs all ready QPUs run at once, and how many more could start now."""
        ready = [qpu for qpu in self._qpus() if qpu.is_ready]
        free = sum(max(0, qpu.capacity - self._loads[qpu.name]) for qpu in ready)
        return sum(qpu.capacity for qpu in ready), free

    async def assess(self, submission: JobSubmission, seed: int | None = None, *, binding: bool = True) -> Assessed:
        """Parse and estimate in a worker, admit here; a short job with a `seed` may be run in the same call.

        Where it is not `binding`, the job may still run elsewhere, and is not refused for its size.
        """
        check_request(submission, self._config)
        qpu = await self.find(submission.qpu)
        args = program_args(submission, self._config)
        rank = CLASSES.index(submission.latency_class)
        is_short = seed is not None and len(submission.program) <= _AT_ONCE_CHARS
        answer = await self._try(qpu, args, seed, rank) if seed is not None and is_short else {}
        answer = answer or await self._ask(qpu, "prepare", args, rank)
        try:
            found = msgspec.convert({**answer, "shots": submission.shots}, _Assessment)
        except (msgspec.ValidationError, TypeError) as error:
            raise QedgeError("worker.bad_answer", f"The estimate cannot be read: {error}.") from error
        estimate = msgspec.convert(found, JobEstimate, from_attributes=True)
        if binding:
            admit(estimate, budget(submission, self._config, self._memory.available_bytes()), self._config)
        return Assessed(estimate, found.parse_s, found.perform_s, qpu.name, answer.get("answer"))

    async def _try(self, qpu: QpuPort, args: Mapping[str, Msg], seed: int, rank: int) -> dict[str, Msg]:
        """Look at a job and run it if it is short; nothing where the QPU hangs or dies, which a run then shows."""
        if asyncio.get_running_loop().time() < self._untrue.get(qpu.name, 0.0):
            return {}
        try:
            answer = await qpu.call(
                "prepare",
                {**args, "at_once": dict(_AT_ONCE), "seed": seed},
                deadline_s=_AT_ONCE_LIMIT_S,
                light=True,
                rank=rank,
            )
        except QedgeError as error:
            if error.code in _UNTRUE:
                self._untrue[qpu.name] = asyncio.get_running_loop().time() + _UNTRUE_S
            elif error.code not in RUNNER_DIED:
                raise
            return {}
        return answer if isinstance(answer, dict) else {}

    async def inspect(self, program: str) -> None:
        """Have a worker read a program; raises `circuit.*` where it cannot."""
        check_length(program, self._config)
        qpu = await self.find("")
        await self._ask(qpu, "inspect", {"program": program, "limits": msgspec.to_builtins(self._config.limits)}, 1)

    async def _ask(self, qpu: QpuPort, method: str, args: Mapping[str, Msg], rank: int) -> dict[str, Msg]:
        deadline_s = self._config.prepare_deadline_s
        try:
            answer = await qpu.call(method, args, deadline_s=deadline_s, light=True, rank=rank)
        except QedgeError as error:
            if error.code not in RUNNER_DIED:
                raise
            # Parsing has no effect to repeat, and the worker may have died of something else.
            answer = await qpu.call(method, args, deadline_s=deadline_s, light=True, rank=rank)
        return answer if isinstance(answer, dict) else {}

    async def find(self, wanted: str) -> QpuPort:
        """Return a ready QPU; one that is just starting or coming back is waited for."""
        if wanted and all(qpu.name != wanted for qpu in self._qpus()):
            raise QedgeError(
                "driver.not_found", f"No driver is named {wanted!r}.", fix="`qedge drivers list` shows them."
            )
        ready = self.pick(wanted)
        if ready is not None:
            return ready
        try:
            async with asyncio.timeout(self._config.qpu_wait_s):
                while (qpu := self.pick(wanted)) is None:
                    self._change.clear()
                    await self._change.wait()
                return qpu
        except TimeoutError:
            name = f"The QPU {wanted}" if wanted else "No QPU of this node"
            raise QedgeError(
                "job.no_qpu",
                f"{name} {'is not' if wanted else 'is'} ready.",
                fix="`qedge drivers list` shows why.",
            ) from None

    def pick(
        self, wanted: str, *, free: bool = False, latency: LatencyClass = LatencyClass.INTERACTIVE
    ) -> QpuPort | None:
        """Return the least loaded ready QPU (of this name, where one is given; with room for such a job, if `free`)."""
        suiting = [
            qpu
            for qpu in self._qpus()
            if qpu.is_ready and (not wanted or qpu.name == wanted) and (not free or self._has_room(qpu, latency))
        ]
        return min(suiting, key=lambda qpu: self._loads[qpu.name] / qpu.capacity, default=None)

    def pick_express(self, wanted: str) -> QpuPort | None:
        """Return a ready QPU that has a spare worker to run a short job on, beside those that it runs."""
        return next(
            (
                qpu
                for qpu in self._qpus()
                if qpu.is_ready and (not wanted or qpu.name == wanted) and self._express[qpu.name] < qpu.spares
            ),
            None,
        )

    def _has_room(self, qpu: QpuPort, latency: LatencyClass) -> bool:
        """Of several slots one is never given to batch jobs, so that others need not wait for the end of one."""
        if latency is LatencyClass.BATCH and qpu.capacity > 1 and self._batch[qpu.name] >= qpu.capacity - 1:
            return False
        return self._loads[qpu.name] < qpu.capacity


class _Assessment(msgspec.Struct, frozen=True):
    qubits: int
    clbits: int
    operations: int
    shots: int
    memory_bytes: int
    time_s: float
    result_bytes: int
    method: str
    parse_s: float
    perform_s: float = 0.0


def program_args(submission: JobSubmission, config: EngineConfig) -> dict[str, Msg]:
    """Return what a circuit worker needs to know of a program."""
    args: dict[str, Msg] = {
        "program": submission.program,
        "shots": submission.shots,
        "limits": msgspec.to_builtins(config.limits),
    }
    if submission.parameters:
        args["parameters"] = dict(submission.parameters)
    if submission.measure_all:
        args["measure_all"] = True
    if submission.task is not None:
        args["task"] = msgspec.to_builtins(submission.task)
    options = {"method": submission.method, "max_bond": submission.max_bond, "min_fidelity": submission.min_fidelity}
    given: dict[str, Msg] = {name: value for name, value in options.items() if value}
    if given:
        args["options"] = given
    return args


def run_args(job: Job, config: EngineConfig, qpu: QpuPort) -> dict[str, Msg]:
    """Return what a circuit worker needs to run a job."""
    args: dict[str, Msg] = {**program_args(job.submission, config), "seed": job.seed}
    if job.submission.is_batch and qpu.capacity + qpu.spares > 1:
        args["background"] = True  # a process cannot come back from there, so one must be left for urgent jobs
    return args


def time_left_s(job: Job, config: EngineConfig, now_ns: int) -> float:
    """Return how long a run that begins now may take."""
    if not job.deadline_ns:
        return config.run_deadline_s
    return max(0.001, min(config.run_deadline_s, (job.deadline_ns - now_ns) / 1e9))
