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
        self._crashes = Recent()
        self._steps = Recent()

    def judge(self, host: HostView, drivers: Iterable[DriverView], *, disk_full: bool, now_ns: int) -> Fitness:
        """Say how well the node is now."""
        qpus = [driver for driver in drivers if driver.kind == "qpu"]
        crashes = self._crashes.note(sum(worker.restarts for qpu in qpus for worker in qpu.workers), now_ns)
        steps = self._steps.note(host.clock_steps, now_ns)
        if disk_full:
            return Fitness(0.0, "critical", "the disk is full")
        unwell = dict(each.split(" ", 1) for each in host.unwell if " " in each)
        if host.verdict == "critical":
            worst = [what for what, level in unwell.items() if level == "critical"]
            return Fitness(0.0, "critical", ", ".join(worst) or "the host is critical")
        found = [(_HOST.get(what, 0.5), f"{what} {level}") for what, level in unwell.items()]
        fewer = next((factor for least, factor in _CRASHES if crashes >= least), 1.0)
        if fewer < 1.0:
            found.append((fewer, f"{crashes} crashes of workers in a minute"))
        if steps:
            found.append((_STEPPED, "the clock stepped"))
        found += [
            (_WORSE_QPU, f"{qpu.name}: {qpu.properties['degraded']}") for qpu in qpus if qpu.properties.get("degraded")
        ]
        if not found:
            return Fitness()
        factor = max(math.prod(each for each, _ in found), _LEAST)
        return Fitness(factor, "degraded", "; ".join(why for _, why in found)[:200])
