"""Hands what segments have counted in plain integers to the metrics, once in a while. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from qedge.base.metrics import Metrics
from qedge.devices.segments.segment import Segment


class Counts:
    """Remembers what was handed over before."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._before: dict[tuple[str, str], int] = {}

    def hand_over(self, segments: Mapping[str, Segment], strays: int) -> None:
        """Hand over what has grown since."""
        for name, segment in segments.items():
            self._metrics.set("qedge_segment_members", len(segment.membership), (name,))
            self._metrics.set("qedge_segment_epoch", segment.membership.line.current, (name,))
            for outcome, total in (("taken", segment.readings), ("dropped", segment.dropped)):
                grown = self._grown((name, outcome), total)
                self._metrics.add("qedge_segment_readings_total", (name, outcome), grown)
        self._metrics.add("qedge_segment_strays_total", (), self._grown(("", ""), strays))

    def _grown(self, what: tuple[str, str], total: int) -> int:
        before, self._before[what] = self._before.get(what, 0), total
        return total - before
