"""The detector: fixed limits, and habits of devices and of their classes, over windows of 5 seconds. Pure.

`tick` is called twenty times a second: one slice of the devices ends its window, ten are looked at for floods, which
need no window to be seen. A fixed limit speaks at once; a habit speaks only when two windows in a row are unusual, and
is never held against a device that has hardly been seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log2
from typing import Final

from qedge.security.config import DetectionConfig
from qedge.security.detection.baseline import Baseline, ClassStatistics
from qedge.security.detection.model import SLICES, WINDOW_S, Finding
from qedge.security.detection.sources import SourceWatch
from qedge.security.detection.tallies import TallyBook, Watched
from qedge.security.model import Evidence
from qedge.security.tally import Tally

TICK_S: Final = WINDOW_S / SLICES
_GLANCED: Final = 10
"""Every this many ticks all devices are glanced at: twice a second."""

_FACTOR: Final = 2.0
"""A habit speaks of a change by this power of 2 and more: a factor of 4."""

_ODD_WINDOWS: Final = 2
_PRESENT: Final = 0.7
_CALM_NS: Final = 3_600_000_000_000
_MAX_CLASSES: Final = 256
_CHURN: Final = 0.4


class Detector:
    """Judges the tallies of a book. Whatever it finds comes out of `tick`."""

    def __init__(self, config: DetectionConfig, book: TallyBook, now_ns: int) -> None:
        self._config = config
        self._book = book
        self._sources = SourceWatch(config, book)
        self._classes: dict[str, ClassStatistics] = {}
        self._begun_ns = [now_ns] * SLICES
        self._slice = 0
        self._silent_ns = round(config.silent_s * 1e9)
        self._limits: tuple[tuple[str, Evidence, int, str], ...] = (
            ("malformed", Evidence.MALFORMED, config.malformed, "malformed packets"),
            ("failed", Evidence.AUTHENTICATION_FAILED, config.malformed, "frames that do not open"),
            ("replayed", Evidence.REPLAYED, config.replayed, "frames that came before"),
            ("denied", Evidence.DENIED, config.denied, "requests that policy denied"),
        )

    def tick(self, now_ns: int) -> list[Finding]:
        """End the windows of one slice, glance at ten, look at sources; to be called every `TICK_S`."""
        findings = []
        number = self._slice
        for each in range(number % _GLANCED, SLICES, _GLANCED):
            findings += self._glance(each)
        findings += self._end_windows(number, now_ns)
        if number % _GLANCED == 0:
            findings += self._sources.look(now_ns)
        self._slice = (number + 1) % SLICES
        return findings

    def _glance(self, number: int) -> list[Finding]:
        limit = self._config.messages
        flooding = [
            each
            for each in self._book.slices[number].values()
            if each.tally.messages + each.tally.throttled > limit and not each.flagged
        ]
        return [self._flood(each) for each in flooding]

    def _flood(self, watched: Watched) -> Finding:
        watched.flagged = True
        messages = watched.tally.messages + watched.tally.throttled
        severity = min(1.0, 0.5 + messages / (20 * self._config.messages))
        detail = f"{messages} messages within {WINDOW_S:g} s"
        return Finding(Evidence.FLOODING, severity, detail, device=watched.subject.id)

    def _end_windows(self, number: int, now_ns: int) -> Iterator[Finding]:
        # A node that was held up must not take a long window for a flood.
        stretch = max(1.0, (now_ns - self._begun_ns[number]) / (WINDOW_S * 1e9))
        self._begun_ns[number] = now_ns
        for watched in self._book.slices[number].values():
            tally = watched.tally
            found = list(self._judge(watched, tally, stretch)) if tally.messages or _marked(tally) else []
            if not tally.messages and watched.baseline is not None:
                found += self._silence(watched, watched.baseline, now_ns)
            if found or watched.flagged:
                watched.calm_ns = now_ns
                yield from found
            elif tally.messages and now_ns - watched.calm_ns >= _CALM_NS:
                watched.calm_ns = now_ns
                yield Finding(Evidence.WELL_BEHAVED, 1.0, "an hour without anything odd", device=watched.subject.id)
            watched.flagged = False
            if tally.messages or _marked(tally):
                tally.reset()

    def _judge(self, watched: Watched, tally: Tally, stretch: float) -> Iterator[Finding]:
        config, device = self._config, watched.subject.id
        if tally.messages + tally.throttled > config.messages * stretch and not watched.flagged:
            yield self._flood(watched)
        for name, evidence, limit, words in self._limits if _marked(tally) else ():
            if (count := getattr(tally, name)) >= limit:
                severity = min(1.0, count / (2 * limit))
                yield Finding(evidence, severity, f"{count} {words} within {WINDOW_S:g} s", device=device)
        if tally.connects > config.connects:
            detail = f"{tally.connects} connections within {WINDOW_S:g} s"
            yield Finding(Evidence.FLOODING, _CHURN, detail, device=device)
        if len(tally.channels) > config.channels:
            severity = min(1.0, len(tally.channels) / (2 * config.channels))
            detail = f"{len(tally.channels)} channels within {WINDOW_S:g} s"
            yield Finding(Evidence.TOPIC_SPREAD, severity, detail, device=device)
        if tally.messages:
            yield from self._habits(watched, tally, stretch)

    def _habits(self, watched: Watched, tally: Tally, stretch: float) -> Iterator[Finding]:
        """Compare a window with what is usual, and learn from it."""
        messages = tally.messages
        rate = log2(1 + messages / stretch)
        statistics = self._class(watched.subject.device_class)
        baseline = watched.baseline
        if baseline is None:
            watched.baseline = Baseline(messages, tally.bytes_in)
            statistics.learn(rate)
            return
        size = log2(1 + tally.bytes_in / messages)
        if baseline.windows >= self._config.learn_windows:
            odd = self._odd(baseline, statistics, rate, size)
            baseline.odd = baseline.odd + 1 if odd else 0
            if baseline.odd == _ODD_WINDOWS:
                baseline.odd = 0
                yield Finding(Evidence.ODD_PAYLOADS, 0.5, odd, device=watched.subject.id)
        baseline.spoke()
        baseline.rate.learn(rate)
        baseline.size.learn(size)
        statistics.learn(rate)

    def _odd(self, baseline: Baseline, statistics: ClassStatistics, rate: float, size: float) -> str:
        """Say what is unusual about a window, or nothing.

        More messages than ever are so only where they are also more than usual for the class: a whole class that
        wakes up, after a power cut for instance, is no attack.
        """
        most = self._config.deviation
        above = baseline.rate.distance(rate)
        if above > most and rate - baseline.rate.mean > _FACTOR:
            if not statistics.known or statistics.distance(rate) > most / 2:
                return f"{2 ** (rate - baseline.rate.mean):.0f} times as many messages as usual"
        elif abs(baseline.size.distance(size)) > most and abs(size - baseline.size.mean) > _FACTOR:
            return f"payloads of {2**size - 1:.0f} bytes where {2**baseline.size.mean - 1:.0f} are usual"
        return ""

    def _silence(self, watched: Watched, baseline: Baseline, now_ns: int) -> Iterator[Finding]:
        """Miss a device that spoke in most windows; one that speaks now and then is missed by nobody."""
        baseline.absent += 1
        if baseline.silent or not self._silent_ns or baseline.windows < self._config.learn_windows:
            return
        silent_ns = now_ns - watched.tally.last_ns
        if watched.tally.last_ns and silent_ns >= self._silent_ns and baseline.presence > _PRESENT:
            baseline.silent = True
            detail = f"silent for {silent_ns / 1e9:.0f} s"
            yield Finding(Evidence.SILENT, 0.4, detail, device=watched.subject.id)

    def _class(self, name: str) -> ClassStatistics:
        statistics = self._classes.get(name)
        if statistics is None:
            if len(self._classes) >= _MAX_CLASSES:
                name = ""
            statistics = self._classes.setdefault(name, ClassStatistics())
        return statistics


def _marked(tally: Tally) -> bool:
    return bool(tally.malformed or tally.failed or tally.replayed or tally.denied or tally.connects or tally.throttled)
