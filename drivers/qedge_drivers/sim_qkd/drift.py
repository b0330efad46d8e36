"""Drift: quantities that wander slowly about their calibrated value."""

from __future__ import annotations

import math

import numpy as np


class Wander:
    """A random walk that is drawn back (Ornstein, Uhlenbeck): Gaussian, correlated over `time_s`, beginning at 0."""

    def __init__(self, dice: np.random.Generator) -> None:
        self._dice = dice
        self._value = 0.0

    def step(self, elapsed_s: float, deviation: float, time_s: float) -> float:
        """Return the value after `elapsed_s` more seconds; its standard deviation tends to `deviation`."""
        if deviation <= 0.0:
            self._value = 0.0
            return 0.0
        kept = math.exp(-elapsed_s / time_s)
        self._value = kept * self._value + deviation * math.sqrt(-math.expm1(-2 * elapsed_s / time_s)) * float(
            self._dice.standard_normal()
        )
        return self._value


def misaligned(misalignment: float, angle_deg: float) -> float:
    """Chance of the wrong detector where the polarisation is turned by an angle: sin² of it beside what is fixed."""
    return misalignment + (1.0 - 2.0 * misalignment) * math.sin(math.radians(angle_deg)) ** 2
