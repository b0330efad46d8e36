"""Processor time by stage, of any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up what stages take; a stage within another one counts for itself alone."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}
        self._lock = threading.Lock()
        self._within = threading.local()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what runs inside for the stage `name`."""
        outer: list[int] | None = getattr(self._within, "inner", None)
        inner = self._within.inner = [0]
        began_ns = time.thread_time_ns()
        try:
            yield
        finally:
            taken = time.thread_time_ns() - began_ns
            self._within.inner = outer
            if outer is not None:
                outer[0] += taken
            with self._lock:
                self._totals[name] = self._totals.get(name, 0) + taken - inner[0]

    def totals(self) -> dict[str, int]:
        """Return nanoseconds by stage."""
        with self._lock:
            return dict(self._totals)
