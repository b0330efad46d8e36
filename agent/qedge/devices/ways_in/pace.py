"""How much of the event loop's time devices get that arrive.

When ten thousand come back at once, work on them waits all the time, and it would fill every turn of the loop: whoever
asks the node for something then finds a loop that is always busy, on a machine that is. So those who accept, check and
greet do so for `BURST_NS`, and then rest for as long: half of the time stays for everything else, whatever an arrival
costs on this machine, and nobody waits for more than a burst. While few arrive, nothing waits at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from qedge.base.clock import Clock

BURST_NS: Final = 2_000_000
_MOST_NS: Final = 1_000_000
"""Counted for one arrival at most: one that waits for a thread or the disk does not have the loop meanwhile."""


class Pace:
    """Shared by all who work on arrivals in one loop: `turn` before each, `spent` after it.

    What is counted is processor time of the loop's thread (`cpu_ns`): on a machine that is busy with other things,
    time on the clock passes without anything being done.
    """

    def __init__(self, clock: Clock, cpu_ns: Callable[[], int] = time.thread_time_ns) -> None:
        self._clock = clock
        self._cpu_ns = cpu_ns
        self._owed_ns = 0
        self._until_ns = 0

    def rest_s(self) -> float:
        """Return the seconds for which nothing is to be begun; 0: begin."""
        return max(0, self._until_ns - self._clock.now_ns()) / 1e9

    async def turn(self) -> int:
        """Wait until something may be begun; returns what `begin` does."""
        while (rest_s := self.rest_s()) > 0:  # noqa: ASYNC110 - what is waited for is time, and others may use it up
            await asyncio.sleep(rest_s)
        return self._cpu_ns()

    def begin(self) -> int:
        """Return the processor time at which something begins, for `spent`."""
        return self._cpu_ns()

    def spent(self, began_ns: int, number: int = 1) -> None:
        """Note that work on `number` arrivals has ended, which began then."""
        self._owed_ns += min(self._cpu_ns() - began_ns, number * _MOST_NS)
        if self._owed_ns >= BURST_NS:
            self._until_ns = self._clock.now_ns() + self._owed_ns
            self._owed_ns = 0
