"""Steps of the wall clock: what it jumped ahead by has made nothing older. Pure.

Readings on the disk have the wall time at which they were taken, since nothing else outlives a restart. A clock that is
set ahead would make all of them as much older at once, and erase what waits for the way upstream.
"""

from __future__ import annotations

from typing import Final

SLACK_NS: Final = 60 * 10**9
"""By so much the clocks may come apart between two looks without that being a step."""


class ForwardSteps:
    """Steps ahead in this run; times in nanoseconds on the boot-time clock (`now_ns`) and the wall clock (`utc_ns`)."""

    def __init__(self, now_ns: int, utc_ns: int) -> None:
        self._offset_ns = utc_ns - now_ns
        self._steps: list[tuple[int, int]] = []

    def look(self, now_ns: int, utc_ns: int) -> None:
        """Compare the clocks; to be called now and then."""
        ahead_ns = utc_ns - now_ns - self._offset_ns
        self._offset_ns = utc_ns - now_ns
        if ahead_ns > SLACK_NS:
            self._steps.append((now_ns, ahead_ns))
        elif ahead_ns < -SLACK_NS and self._steps:
            # set back: what it was ahead by is taken back from the newest step first
            while self._steps and ahead_ns < 0:
                at_ns, size_ns = self._steps.pop()
                if size_ns + ahead_ns > SLACK_NS:
                    self._steps.append((at_ns, size_ns + ahead_ns))
                ahead_ns += size_ns

    def unstepped(self, now_ns: int, utc_ns: int, max_age_ns: int) -> int:
        """Return the wall time without the steps that are younger than `max_age_ns`, by which ages are judged.

        Whatever was there before a step has reached that age by running time once the step has.
        """
        self._steps = self._steps[-64:]
        return utc_ns - sum(size for at_ns, size in self._steps if now_ns - at_ns < max_age_ns)
