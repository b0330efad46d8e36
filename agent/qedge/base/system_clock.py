"""The clocks of the operating system (an edge module: it reads `time`)."""

from __future__ import annotations

import time


class SystemClock:
    """`Clock` from CLOCK_BOOTTIME (CLOCK_MONOTONIC where there is none) and CLOCK_REALTIME."""

    def __init__(self) -> None:
        self._clock_id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now_ns(self) -> int:
        """Nanoseconds since boot."""
        return time.clock_gettime_ns(self._clock_id)

    def utc_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""
        return time.time_ns()
