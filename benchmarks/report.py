"""The form of a figure: what was measured, its bound, and the baseline of the same run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass


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
