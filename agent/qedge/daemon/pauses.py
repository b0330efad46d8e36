"""Keeps the pauses of the garbage collector short while a node takes in ten thousand devices.

A full collection looks at every object that was not frozen, and with the objects of ten thousand devices that takes
some fifty milliseconds, in which nothing else happens. So once a full collection has become long, all that has survived
it is frozen: it is in use at that moment, and goes by reference counts when it is not.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Final

LONG_NS: Final = 2_000_000


class ShortPauses:
    """A callback of the garbage collector (`gc.callbacks`)."""

    def __init__(
        self,
        *,
        clock_ns: Callable[[], int] = time.thread_time_ns,
        freeze: Callable[[], None] = gc.freeze,
        long_ns: int = LONG_NS,
    ) -> None:
        self._clock_ns = clock_ns
        self._freeze = freeze
        self._long_ns = long_ns
        self._began_ns = 0

    def __call__(self, phase: str, info: Mapping[str, int]) -> None:
        """Hear of the beginning and the end of a collection."""
        if info["generation"] < 2:
            return
        if phase == "start":
            self._began_ns = self._clock_ns()
        elif self._clock_ns() - self._began_ns > self._long_ns:
            self._freeze()
