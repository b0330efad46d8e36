"""Hands what segments have counted in plain integers to the metrics, once in a while. Pure."""

from __future__ import annotations

from qedge.base.metrics import Metrics
from qedge.devices.segments.segment import Segment


class Counts:
    """Remembers what was handed over before; nothing is said of a segment of which nothing has changed."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._before: dict[str, tuple[int, int, int, int]] = {}
        self._strays = 0

    def hand_over(self, name: str, segment: Segment) -> None:
        """Hand over what has grown since."""
        members, epoch = len(segment.membership), segment.membership.line.current
        now = (members, epoch, segment.readings, segment.dropped)
        before = self._before.get(name)
        if now == before:
            return
        self._before[name] = now
        if before is None or now[:2] != before[:2]:  # nearly always only readings have been added
            self._metrics.set("qedge_segment_members", members, (name,))
            self._metrics.set("qedge_segment_epoch", epoch, (name,))
        _, _, taken, dropped = before or (0, 0, 0, 0)
        self._metrics.add("qedge_segment_readings_total", (name, "taken"), segment.readings - taken)
        if before is None or segment.dropped != dropped:
            self._metrics.add("qedge_segment_readings_total", (name, "dropped"), segment.dropped - dropped)

    def hand_over_strays(self, total: int) -> None:
        """Hand over how many readings belonged to no channel."""
        self._metrics.add("qedge_segment_strays_total", (), total - self._strays)
        self._strays = total
