"""Verdicts on the host: pure rules over samples, with hysteresis so that a value on the edge does not flap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from qedge.mesh.config import HostConfig

_MIB: Final = 2**20
_RELIEF: Final = 0.1
"""A value must be this share better than a limit before it is past it."""

_CPU_MEMORY_S: Final = 30.0
_CRITICAL_DEGREES: Final = 10.0
_NEVER: Final = -math.inf


class Level(IntEnum):
    """How well a value is; the host is as well as the worst of its values."""

    OK = 0
    DEGRADED = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        """Return the level as status and logs show it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the host; temperature and power are 0 where the host does not tell."""

    cpu_ratio: float
    memory_available_bytes: int
    memory_total_bytes: int
    disk_free_bytes: int
    temperature_celsius: float
    power_watts: float
    daemon_bytes: int
    now_ns: int
    utc_ns: int


@dataclass(frozen=True, slots=True)
class Change:
    """A value that changed its level; `limit` is the one it crossed, in the unit of the value."""

    what: str
    level: Level
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What one sample brought: levels that changed, and by how many seconds the wall clock stepped (0: it did not)."""

    changes: tuple[Change, ...]
    clock_step_s: float


def judge(before: Level, value: float, degraded: float, critical: float) -> Level:
    """Judge a value that is bad when small (negate one that is bad when large) against two limits.

    It gets worse at a limit, and better only where it is `_RELIEF` of the limit beyond it.
    """

    def limit(of: Level, at: float) -> float:
        return at + abs(at) * _RELIEF if before >= of and math.isfinite(at) else at

    if value < limit(Level.CRITICAL, critical):
        return Level.CRITICAL
    return Level.DEGRADED if value < limit(Level.DEGRADED, degraded) else Level.OK


class HostHealth:
    """Keeps the level of each value and counts steps of the wall clock against the boot-time clock."""

    def __init__(self, config: HostConfig) -> None:
        self._config = config
        self._levels: dict[str, Level] = {}
        self._last: Sample | None = None
        self._cpu_ratio = 0.0
        self.clock_steps = 0

    @property
    def verdict(self) -> str:
        """Return the worst of all: `ok`, `degraded` or `critical`; `unknown` before the first sample."""
        return max(self._levels.values()).word if self._levels else "unknown"

    @property
    def unwell(self) -> tuple[str, ...]:
        """Name the values that are not well, each with its level."""
        return tuple(f"{what} {level.word}" for what, level in self._levels.items() if level is not Level.OK)

    @property
    def last(self) -> Sample | None:
        """The newest sample."""
        return self._last

    def take(self, sample: Sample) -> Findings:
        """Judge a sample."""
        config = self._config
        memory, disk = config.min_memory_mib * _MIB, config.min_disk_mib * _MIB
        hot = config.max_temperature_celsius
        self._smooth_cpu(sample)
        judged = (
            self._judge("memory", sample.memory_available_bytes, memory, memory / 2),
            self._judge("disk", sample.disk_free_bytes, disk, disk / 4),
            # A quantum job may well use all cores: only a host that is busy for long is degraded, and never critical.
            self._judge("cpu", -self._cpu_ratio, -config.max_cpu_ratio, _NEVER),
            self._judge("temperature", -sample.temperature_celsius, -hot, -hot - _CRITICAL_DEGREES),
        )
        step_s = self._clock_step_s(sample)
        self._last = sample
        return Findings(tuple(change for change in judged if change is not None), step_s)

    def _smooth_cpu(self, sample: Sample) -> None:
        if self._last is None:
            return  # the first look is the start of the daemon itself, which is work
        passed_s = max(0.0, (sample.now_ns - self._last.now_ns) / 1e9)
        weight = -math.expm1(-passed_s / _CPU_MEMORY_S)  # exponential average over `_CPU_MEMORY_S`
        self._cpu_ratio += weight * (sample.cpu_ratio - self._cpu_ratio)

    def _clock_step_s(self, sample: Sample) -> float:
        if self._last is None:
            return 0.0
        drift_s = ((sample.utc_ns - self._last.utc_ns) - (sample.now_ns - self._last.now_ns)) / 1e9
        if abs(drift_s) <= self._config.clock_step_s:
            return 0.0
        self.clock_steps += 1
        return drift_s

    def _judge(self, what: str, value: float, degraded: float, critical: float) -> Change | None:
        before = self._levels.get(what, Level.OK)
        after = self._levels[what] = judge(before, value, degraded, critical)
        if after is before:
            return None
        crossed = critical if Level.CRITICAL in (before, after) else degraded
        return Change(what, after, abs(value), abs(crossed))
