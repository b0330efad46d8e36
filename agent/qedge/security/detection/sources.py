"""Addresses that fail to authenticate: counted per source, however slowly, since guessing need not be fast. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from qedge.security.config import DetectionConfig
from qedge.security.detection.model import Finding
from qedge.security.detection.tallies import Source, TallyBook
from qedge.security.model import Evidence

_AGAIN: Final = 2.0
"""A source is reported again when it has failed this many times as often as at the last report."""

_FORGET: Final = 0.5
"""Failures of which less than this is left are forgotten."""

_LONGEST_DETAIL: Final = 64


class SourceWatch:
    """Judges the addresses of a tally book."""

    def __init__(self, config: DetectionConfig, book: TallyBook) -> None:
        self._config = config
        self._book = book

    def look(self, now_ns: int) -> Iterator[Finding]:
        """Judge all addresses, and forget those that have done nothing of late."""
        idle = []
        half_life_ns = self._config.failures_half_life_s * 1e9
        for address, source in self._book.addresses.items():
            tally = source.tally
            failed = tally.failed + tally.malformed
            if failed:
                tally.reset()
            elif now_ns - source.at_ns < half_life_ns / 16:
                continue
            source.failures = failed + source.failures * 0.5 ** ((now_ns - source.at_ns) / half_life_ns)
            source.at_ns = now_ns
            if source.failures >= self._config.failures and source.failures >= _AGAIN * source.reported:
                source.reported = source.failures
                yield self._finding(address, source)
            elif source.failures < self._config.failures / 2:
                source.reported = 0.0
                if source.failures < _FORGET:
                    idle.append(address)
        for address in idle:
            del self._book.addresses[address]

    def _finding(self, address: str, source: Source) -> Finding:
        severity = min(1.0, 0.5 + source.failures / (20 * self._config.failures))
        detail = f"{source.failures:.0f} attempts failed"
        return Finding(Evidence.AUTHENTICATION_FAILED, severity, detail, address=address[:_LONGEST_DETAIL])
