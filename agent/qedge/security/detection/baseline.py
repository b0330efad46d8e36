"""What is usual for one device and for its class, learnt window by window. Pure.

Rates and sizes are looked at as logarithms to base 2 (`log2(1 + messages)`), so that a deviation is a factor. A
device's habit is the exponentially weighted mean and mean absolute deviation of its windows with messages; a class is
the median and the median absolute deviation of the latest windows of all its devices. A value far off moves a habit
only by the width of what is usual, so nobody teaches it a flood in one stroke.
"""

from __future__ import annotations

from math import log2
from typing import Final

_LEARN: Final = 0.05
"""Weight of the newest window."""

_NARROWEST: Final = 0.25
"""Smallest deviation that counts as usual, in powers of 2: sensors that always send the same are not held to it."""

_CLASS_SAMPLES: Final = 255
_CLASS_EVERY: Final = 64
_MAD: Final = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""


class Habit:
    """Mean and mean absolute deviation of one figure."""

    __slots__ = ("deviation", "mean")

    def __init__(self, value: float) -> None:
        self.mean = value
        self.deviation = _NARROWEST

    def distance(self, value: float) -> float:
        """Return how many deviations a value is away, with its sign."""
        return (value - self.mean) / self.deviation

    def learn(self, value: float) -> None:
        """Take a value in."""
        off = value - self.mean
        reach = 3 * self.deviation
        off = max(-reach, min(reach, off))
        self.mean += _LEARN * off
        deviation = self.deviation + _LEARN * (abs(off) - self.deviation)
        self.deviation = max(_NARROWEST, deviation)


class Baseline:
    """The habits of one device. `windows` with messages were learnt from; `odd` of the latest in a row were unusual.

    `presence` is the weighted share of windows with messages up to the last that had some; `absent` came since then.
    """

    __slots__ = ("absent", "odd", "presence", "rate", "silent", "size", "windows")

    def __init__(self, messages: int, bytes_in: int) -> None:
        self.rate = Habit(log2(1 + messages))
        self.size = Habit(log2(1 + bytes_in / messages))
        self.windows = 1
        self.presence = 0.0
        self.absent = 0
        self.odd = 0
        self.silent = False

    def spoke(self) -> None:
        """Count a window with messages, and those without before it."""
        self.presence = self.presence * (1 - _LEARN) ** (self.absent + 1) + _LEARN
        self.absent = 0
        self.silent = False
        self.windows += 1


class ClassStatistics:
    """Rates of the latest windows of all devices of a class."""

    __slots__ = ("_new", "_samples", "deviation", "median")

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._new = 0
        self.median = 0.0
        self.deviation = 0.0

    @property
    def known(self) -> bool:
        """Whether there were enough windows to speak of a class."""
        return self.deviation > 0

    def learn(self, rate: float) -> None:
        """Take the rate of one window in."""
        samples = self._samples
        if len(samples) < _CLASS_SAMPLES:
            samples.append(rate)
        else:
            samples[self._new % _CLASS_SAMPLES] = rate
        self._new += 1
        if self._new % _CLASS_EVERY == 0:
            ordered = sorted(samples)
            self.median = ordered[len(ordered) // 2]
            apart = sorted(abs(each - self.median) for each in ordered)
            self.deviation = max(_NARROWEST, _MAD * apart[len(apart) // 2])

    def distance(self, rate: float) -> float:
        """Return how many deviations a rate is above the median of the class."""
        return (rate - self.median) / self.deviation
