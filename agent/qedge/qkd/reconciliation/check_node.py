"""The numbers that decoders work with: how large a certainty is, and how two of them are combined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

ENTRIES: Final = 16
"""Of the correction table; the last one is zero, so that larger indices need no entry."""
FINEST: Final = 5.5
"""Units to one natural unit of log-likelihood, at most: with more of them the correction does not fit its table."""
HEAVY_BELOW: Final = 0.025
"""Error rate below which rows are so heavy that corrections are rounded up from 0.4: found by experiment, it saves 1 %
of the leak at an error rate of 1 %, where rounding at one half adds up to a bias in rows of 60 circulants."""


PACE: Final = 4
"""Sweeps in which the number of broken checks must fall by one in 32."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How a decoder is run.

    `units` to one natural unit of log-likelihood, but no more than `most` for a received bit; `largest`: bound of
    messages from checks to bits; sweeps; and those after which the number of broken checks has to go on falling.
    """

    units: float
    most: int
    largest: int
    sweeps: int
    patience: int


@dataclass(frozen=True, slots=True)
class Scale:
    """`channel`: the log-likelihood ratio of a received bit, in units. `correction`: see `correction_table`."""

    channel: int
    correction: NDArray[np.int8]


def correction_table(units: float, up_from: float = 0.5) -> NDArray[np.int8]:
    """Return s·ln(1 + exp(-d/s)) in whole units for d = 0 … 15 and s units to one natural unit of log-likelihood.

    Fractions from `up_from` on are rounded up. ValueError where the last entry would not be zero.
    """
    distance = np.arange(ENTRIES)
    table = np.floor(units * np.log1p(np.exp(-distance / units)) + 1 - up_from).astype(np.int8)
    if table[-1] != 0:
        raise ValueError(f"{units} units are too many for a table of {ENTRIES} entries")
    return table


def scale(qber: float, units: float, most: int) -> Scale:
    """Scale log-likelihoods so that one natural unit has about `units`, and a received bit has `most` units at most."""
    natural = math.log((1 - qber) / qber)
    channel = max(1, min(int(min(units, FINEST) * natural), most))
    return Scale(channel, correction_table(channel / natural, 0.4 if qber < HEAVY_BELOW else 0.5))
