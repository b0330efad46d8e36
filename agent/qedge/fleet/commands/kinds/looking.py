"""What only looks: logs, self-test, benchmark."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.fleet.commands.kinds.kind import Kind, KindOf
from qedge.fleet.commands.ports import Progress
from qedge.wire.command_kinds import (
    BenchmarkAsk,
    BenchmarkFigure,
    BenchmarkOutcome,
    CheckResult,
    DiagnosticsAsk,
    DiagnosticsPart,
    LogAsk,
    LogLines,
    SelfTestOutcome,
)
from qedge.wire.commands import CommandRequest, OperatorRole

MAX_LOG_BYTES: Final = 100 * 1024
PART_BYTES: Final = 120 * 1024
KEPT_LINES: Final = 2000
_MAX_LINE: Final = 2000
_LEVELS: Final = {"debug": 0, "info": 1, "warning": 2, "error": 3, "critical": 4}

Check = tuple[str, Callable[[], Awaitable[str]]]
"""Name of a check, and what does it: returns a detail, raises `QedgeError` where something is wrong."""

Measured = tuple[str, Callable[[], Awaitable[None]]]
"""Name of a thing to measure, and what does it once."""


class LogBuffer:
    """The newest lines of the log, scrubbed as they are written; `hear` is called from any thread."""

    def __init__(self, lines: int = KEPT_LINES) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=lines)

    def hear(self, event: Mapping[str, object]) -> None:
        """Take one event."""
        level = _LEVELS.get(str(event.get("level", "info")), 1)
        self._lines.append((level, json.dumps(event, default=repr)[:_MAX_LINE]))

    def select(self, wanted: LogAsk) -> LogLines:
        """Return the newest lines that match, as many as fit into a result."""
        least = _LEVELS[wanted.level]
        found = [line for level, line in tuple(self._lines) if level >= least and wanted.contains in line]
        kept: deque[str] = deque()
        room = MAX_LOG_BYTES
        for line in reversed(found[-wanted.lines :]):
            room -= len(line.encode()) + 5
            if room < 0:
                break
            kept.appendleft(line)
        return LogLines(tuple(kept), len(found) - len(kept))


class Logs(KindOf[LogAsk]):
    """`logs`: the newest lines of the node's own log."""

    kind = "logs"
    lane = "looking"
    role = OperatorRole.VIEWER
    arguments = LogAsk
    answers = LogLines

    def __init__(self, buffer: LogBuffer) -> None:
        self._buffer = buffer

    async def run(self, request: CommandRequest, _progress: Progress) -> msgspec.Struct | None:
        """Select."""
        return self._buffer.select(self.read(request))


class SelfTest(Kind):
    """`self-test`: algorithms, broker, drivers, database; every check is done whatever the others found."""

    kind = "self-test"
    lane = "looking"
    role = OperatorRole.VIEWER
    time_limit_s = 120.0
    answers = SelfTestOutcome

    def __init__(self, checks: Callable[[], Sequence[Check]], clock: Clock) -> None:
        self._checks = checks
        self._clock = clock

    async def run(self, _request: CommandRequest, progress: Progress) -> msgspec.Struct | None:
        """Do all checks; a node that fails one has carried out the command all the same."""
        checks, results = self._checks(), []
        for number, (name, check) in enumerate(checks):
            await progress(name, number / len(checks))
            began_ns = self._clock.now_ns()
            try:
                ok, detail = True, await check()
            except QedgeError as error:
                ok, detail = False, f"{error} [{error.code}]"
            took_s = (self._clock.now_ns() - began_ns) / 1e9
            results.append(CheckResult(name[:200], ok, round(took_s, 4), detail[:500]))
        return SelfTestOutcome(all(each.ok for each in results), tuple(results))


class Collector(Protocol):
    """Makes a bundle of what people need who look for a fault; no secret is in it."""

    async def collect(self) -> bytes:
        """Return an archive (tar.gz)."""
        ...


class Diagnostics(KindOf[DiagnosticsAsk]):
    """`diagnostics`: a bundle for who looks for a fault, part by part; part 0 makes a new one."""

    kind = "diagnostics"
    lane = "looking"
    role = OperatorRole.VIEWER
    arguments = DiagnosticsAsk
    answers = DiagnosticsPart
    time_limit_s = 120.0

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._bundle = b""

    async def run(self, request: CommandRequest, _progress: Progress) -> msgspec.Struct | None:
        """Return one part; raises `order.bad_arguments` where there is none."""
        number = self.read(request).part
        if number == 0:
            self._bundle = await self._collector.collect()
        data = self._bundle[number * PART_BYTES : (number + 1) * PART_BYTES]
        if not data:
            raise QedgeError(
                "order.bad_arguments", f"The newest bundle has no part {number}.", fix="Begin with part 0."
            )
        parts = -(-len(self._bundle) // PART_BYTES)
        return DiagnosticsPart(number, parts, hashlib.sha256(self._bundle).hexdigest(), data)


class Benchmark(KindOf[BenchmarkAsk]):
    """`benchmark`: how fast the node is beside its usual work."""

    kind = "benchmark"
    lane = "looking"
    role = OperatorRole.VIEWER
    arguments = BenchmarkAsk
    answers = BenchmarkOutcome
    time_limit_s = 180.0

    def __init__(self, measured: Callable[[], Sequence[Measured]], clock: Clock) -> None:
        self._measured = measured
        self._clock = clock

    async def run(self, request: CommandRequest, progress: Progress) -> msgspec.Struct | None:
        """Measure one thing after the other."""
        seconds, things = self.read(request).seconds, self._measured()
        figures = []
        for number, (name, once) in enumerate(things):
            await progress(name, number / len(things))
            figures.append(await self._measure(name, once, seconds))
        return BenchmarkOutcome(tuple(figures))

    async def _measure(self, name: str, once: Callable[[], Awaitable[None]], seconds: float) -> BenchmarkFigure:
        began_ns = before_ns = self._clock.now_ns()
        took_ns: list[int] = []
        while not took_ns or before_ns - began_ns < seconds * 1e9:
            await once()
            now_ns = self._clock.now_ns()
            took_ns.append(now_ns - before_ns)
            before_ns = now_ns
        total_s = max(1e-9, (before_ns - began_ns) / 1e9)
        middle_ms = sorted(took_ns)[len(took_ns) // 2] / 1e6
        return BenchmarkFigure(name, round(len(took_ns) / total_s, 3), round(middle_ms, 4), len(took_ns))
