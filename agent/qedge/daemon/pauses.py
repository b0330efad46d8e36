"""Keeps the pauses of the garbage collector and of threads short while a node takes in ten thousand devices.

A collection looks at every object that it has not looked at yet, and with the objects of ten thousand devices that
takes tens of milliseconds, in which nothing else happens: a full one fifty, and one of the ten thousand youngest
objects still thirty, since each of them is a look at memory that no cache holds. So the young are looked through a
thousand at a time, and once a collection has become long, all that has survived it is frozen: it is in use at that
moment, and goes by reference counts when it is not. What is in a circle then and lets go of itself later stays; while
devices come and go, that is next to nothing (`tests/unit/daemon`).

A thread that wants to go on asks the one that runs to stop after the switch interval, five milliseconds by default.
The database's thread gives the interpreter away with each statement, so beside a busy event loop a commit of four
statements waited as often (decision 0108).
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

LONG_NS: Final = 1_000_000
SWITCH_S: Final = 2e-4
YOUNG: Final = (1_000, 2, 5)
"""New objects after which they are looked through, and after how many times those that survived it are."""


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
        if phase == "start":
            self._began_ns = self._clock_ns()
        elif self._clock_ns() - self._began_ns > self._long_ns:
            self._freeze()


def collect_from_now() -> None:
    """Begin to collect garbage, but look at what is there now only once the node is ready: most of it stays."""
    gc.freeze()
    gc.enable()


def shorten_pauses() -> None:
    """Leave what is there now out of every later collection, keep those short, and let threads change often."""
    sys.setswitchinterval(SWITCH_S)
    gc.unfreeze()  # what `collect_from_now` left out; loading modules leaves circles, too
    gc.collect()
    gc.freeze()
    gc.set_threshold(*YOUNG)
    if not any(isinstance(each, ShortPauses) for each in gc.callbacks):
        gc.callbacks.append(ShortPauses())
