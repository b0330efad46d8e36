"""Verdicts on the host: pure rules over samples, with hysteresis so that a value on the edge does not flap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qedge.mesh.config import HostConfig

_MIB: Final = 2**20
_RELIEF: Final = 0.1
"""A value must be this share better than its limit before it counts as well again."""

OK: Final = "ok"
DEGRADED: Final = "degraded"
CRITICAL: Final = "critical"


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the host; temperature and power are 0 where the host does not tell."""

    cpu_ratio: float
    memory_available_bytes: int
    memory_total_bytes: int
    disk_free_bytes: int
    temperature_celsius: float
    power_watts: float
    now_ns: int
    utc_ns: int


class HostHealth:
    """Keeps the verdict per value and counts steps of the wall clock."""

    def __init__(self, config: HostConfig) -> None:
        self._config = config
        self._levels: dict[str, str] = {}
        self._last: Sample | None = None
        self.clock_steps = 0

    @property
    def verdict(self) -> str:
        """Return the worst of all: `ok`, `degraded` or `critical`; `unknown` before the first sample."""
        if self._last is None:
            return "unknown"
        levels = self._levels.values()
        return CRITICAL if CRITICAL in levels else DEGRADED if DEGRADED in levels else OK

    @property
    def last(self) -> Sample | None:
        """The newest sample."""
        return self._last

    def take(self, sample: Sample) -> tuple[list[tuple[str, str]], float]:
        """Judge a sample. Returns which values changed their level, and by how many seconds the wall clock stepped."""
        config = self._config
        changes = [
            self._judge(
                "memory", config.min_memory_mib * _MIB, config.min_memory_mib * _MIB / 2, sample.memory_available_bytes
            ),
            self._judge("disk", config.min_disk_mib * _MIB, config.min_disk_mib * _MIB / 4, sample.disk_free_bytes),
            self._judge("cpu", -config.max_cpu_ratio, -2.0, -sample.cpu_ratio),
            self._judge(
                "temperature",
                -config.max_temperature_celsius,
                -config.max_temperature_celsius - 10,
                -sample.temperature_celsius,
            ),
        ]
        step_s = 0.0
        if self._last is not None:
            drift_ns = (sample.utc_ns - self._last.utc_ns) - (sample.now_ns - self._last.now_ns)
            if abs(drift_ns) > config.clock_step_s * 1e9:
                step_s = drift_ns / 1e9
                self.clock_steps += 1
        self._last = sample
        return [change for change in changes if change is not None], step_s

    def _judge(self, what: str, low: float, very_low: float, value: float) -> tuple[str, str] | None:
        """Judge a value that is bad when small; returns what changed and its new level."""
        before = self._levels.get(what, OK)
        relief = abs(low) * _RELIEF if before != OK else 0.0
        if value < very_low:
            after = CRITICAL
        elif value < low + relief:
            after = DEGRADED
        else:
            after = OK
        self._levels[what] = after
        return (what, after) if after != before else None
