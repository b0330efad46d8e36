"""When a worker collects garbage: between calls, once an answer is on its way, so that no ordinary call waits for it.

A call that goes on making objects collects by itself after many of them, so memory stays bounded in any case.
"""

from __future__ import annotations

import gc
from typing import Final

DURING_CALLS: Final = 100_000
"""Objects that one call may add before they are looked through while it runs; a circuit of 250 gates makes 2,000."""
BETWEEN_CALLS: Final = 5_000
"""Objects that calls may have added before they are looked through after an answer, which takes 0.2 ms."""
_WHOLE_EVERY: Final = 64
"""Every so many times everything is looked through, not only what is new; that takes milliseconds."""


class Garbage:
    """Decides after every answer whether to collect; made once, before the first call."""

    def __init__(self) -> None:
        gc.set_threshold(DURING_CALLS)
        self._times = 0

    def after_answer(self) -> None:
        """Collect where enough has come together."""
        if gc.get_count()[0] < BETWEEN_CALLS:
            return
        self._times += 1
        gc.collect(1 if self._times % _WHOLE_EVERY else 2)
