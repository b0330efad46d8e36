"""How much work a node wants in the state it is in, and why not all. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from qedge.wire.node import DriverView, HostView

RECENT_NS: Final = 60_000_000_000
"""Crashes of workers and steps of the clock count for this long."""
_HOST: Final[Mapping[str, float]] = {"temperature": 0.5, "memory": 0.5, "disk": 0.5, "cpu": 0.8}
_CRASHES: Final = ((6, 0.25), (3, 0.5))
_STEPPED: Final = 0.7
_WORSE_QPU: Final = 0.7
_LEAST: Final = 0.05
_OK: Final = "ok"


@dataclass(frozen=True, slots=True)
class Fitness:
    """The share of its usual work that a node wants (0: none), a verdict `ok`, `degraded` or `critical`, and why."""

    factor: float = 1.0
    verdict: str = _OK
    reason: str = ""


class Recent:
    """By how much a counter grew in the last minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque()
        self._last: int | None = None

    def note(self, total: int, now_ns: int) -> int:
        """Take the counter as it is; returns its growth. A counter that is smaller than before began anew."""
        if self._last is not None and total > self._last:
            self._seen.append((now_ns, total - self._last))
        self._last = total
        while self._seen and now_ns - self._seen[0][0] > RECENT_NS:
            self._seen.popleft()
        return sum(grown for _, grown in self._seen)


class HealthJudge:
    """Keeps what happened lately, and puts everything together."""

    def __init__(self) -> None:
        self._crashes: dict[str, Recent] = {}
        self._steps = Recent()

    def judge(self, host: HostView, drivers: Iterable[DriverView], *, disk_full: bool, now_ns: int) -> Fitness:
        """Say how well the node is now."""
        qpus = [driver for driver in drivers if driver.kind == "qpu"]
        crashes = self._crashes_of(qpus, now_ns)
        steps = self._steps.note(host.clock_steps, now_ns)
        if disk_full:
            return Fitness(0.0, "critical", "the disk is full")
        unwell = dict(each.split(" ", 1) for each in host.unwell if " " in each)
        if host.verdict == "critical":
            worst = [what for what, level in unwell.items() if level == "critical"]
            return Fitness(0.0, "critical", ", ".join(worst) or "the host is critical")
        found = [(_HOST.get(what, 0.5), f"{what} {level}") for what, level in unwell.items()]
        found += _by_crashes(crashes)
        if steps:
            found.append((_STEPPED, "the clock stepped"))
        found += [
            (_WORSE_QPU, f"{qpu.name}: {qpu.properties['degraded']}") for qpu in qpus if qpu.properties.get("degraded")
        ]
        if not found:
            return Fitness()
        factor = max(math.prod(each for each, _ in found), _LEAST)
        return Fitness(factor, "degraded", "; ".join(why for _, why in found)[:200])

    def _crashes_of(self, qpus: list[DriverView], now_ns: int) -> dict[str, int]:
        """Return how often workers of each QPU crashed lately."""
        self._crashes = {qpu.name: self._crashes.get(qpu.name) or Recent() for qpu in qpus}
        return {
            qpu.name: self._crashes[qpu.name].note(sum(worker.restarts for worker in qpu.workers), now_ns)
            for qpu in qpus
        }


def _by_crashes(crashes: Mapping[str, int]) -> list[tuple[float, str]]:
    """Judge crashes of workers: where all QPUs crash it is the node, where some do it is their drivers.

    So a bad driver, which its jobs and its own state tell of, takes little work from the QPUs beside it.
    """
    least = min(crashes.values(), default=0)
    for limit, factor in _CRASHES:
        if least >= limit:
            return [(factor, f"{sum(crashes.values())} crashes of workers in a minute")]
    bad = [name for name, number in crashes.items() if number >= _CRASHES[-1][0]]
    return [(_WORSE_QPU, f"workers of {', '.join(bad)} crash")] if bad else []
