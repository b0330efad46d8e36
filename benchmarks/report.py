"""The form of a figure: what was measured, its bound, and the baseline of the same run.

Machines that are shared change their speed within seconds. So what takes milliseconds is measured in several rounds,
and the figures are those of the quietest one: the round with the smallest median, and the p99 of that same round.
Rivals run in the same rounds, in turn with ours, and are given their own quietest round. How fast the machine was in a
run stands beside them as `machine.loop_ms`: CPU time of a fixed loop in Python, the least of the run, with its median
as baseline. Where daemons write, what its disk takes to make a few pages safe stands there too, as `machine.sync_*_ms`:
every accepted job waits for one such sync at least.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ROUNDS: Final = 5
_LOOP: Final = 20_000
_SYNCS: Final = 40
_PAGES: Final = bytes(8192)


@dataclass(frozen=True)
class Figure:
    """`target` is an upper bound unless `at_least`; `ratio` is value over baseline."""

    name: str
    value: float
    unit: str
    samples: int
    target: float | None = None
    baseline: float | None = None
    at_least: bool = False

    @property
    def ok(self) -> bool:
        """Whether the bound is kept; a figure without one is only reported."""
        if self.target is None:
            return True
        return self.value >= self.target if self.at_least else self.value <= self.target

    def line(self) -> str:
        """Write the figure as one JSON object."""
        fields: dict[str, object] = {
            "name": self.name,
            "value": round(self.value, 6),
            "unit": self.unit,
            "target": self.target,
            "ok": self.ok,
            "samples": self.samples,
        }
        if self.baseline is not None:
            fields["baseline"] = round(self.baseline, 6)
            fields["ratio"] = round(self.value / self.baseline, 4) if self.baseline else None
        return json.dumps(fields)


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that is not exceeded by `share` (0 … 1) of all."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]


def quietest(rounds: Sequence[Sequence[float]]) -> Sequence[float]:
    """Return the round with the smallest median."""
    return min(rounds, key=statistics.median)


class Machine:
    """How fast this machine is in the course of a run."""

    def __init__(self) -> None:
        self._loops_ms: list[float] = []
        self._syncs_ms: list[float] = []

    def look(self) -> None:
        """Begin a round: time the loop a few times, with what rivals have left in memory out of the way."""
        gc.collect()
        gc.freeze()
        for _ in range(5):
            started, total = time.thread_time(), 0
            for number in range(_LOOP):
                total += number * number % 7
            self._loops_ms.append((time.thread_time() - started) * 1e3)

    def look_at_disk(self) -> None:
        """Time syncs of two pages, where temporary files and so the databases of daemons are."""
        with tempfile.TemporaryFile(prefix="qedge-bench-") as file:
            for _ in range(_SYNCS):
                file.seek(0)
                file.write(_PAGES)
                file.flush()
                started = time.perf_counter()
                os.fdatasync(file.fileno())
                self._syncs_ms.append((time.perf_counter() - started) * 1e3)

    def disk_figures(self) -> list[Figure]:
        """Say what syncs took."""
        syncs = self._syncs_ms
        return [
            Figure(f"machine.sync_p{round(100 * share)}_ms", percentile(syncs, share), "ms", len(syncs))
            for share in (0.5, 0.99)
        ]

    def figure(self) -> Figure:
        """Say what was found."""
        loops = self._loops_ms
        return Figure("machine.loop_ms", min(loops), "ms", len(loops), None, statistics.median(loops))
