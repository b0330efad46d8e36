"""Closed forms of decoy-state BB84 with weak coherent pulses and threshold detectors, and how photons are distributed.

A phase-randomised pulse of mean photon number k is a Poisson mixture of photon numbers, and stays one, of mean k·t,
behind a fibre of transmittance t (Ma, Qi, Zhao, Lo, Phys. Rev. A 72, 012326 (2005)); with double-detector background
Y0 = 1 − (1−p_d)² the gain of intensity k is Q = 1 − (1−Y0) e^(−ηk) (the exact form; Lim et al., Phys. Rev. A 89,
022307 (2014) use it with one detector).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

PHOTON_CELLS = 64
"""Photon numbers 0 … 63 are told apart; at a mean of 10 the chance of more is below 1e-26."""


def transmittance(loss_db: float) -> float:
    """Share of the photons that a loss lets through."""
    return float(10.0 ** (-loss_db / 10.0))


def gain(mean: float, efficiency: float, dark_count_probability: float) -> float:
    """Q = 1 − (1−Y0) e^(−ηk): chance of a click; `mean` at Alice, `efficiency` of fibre and receiver together."""
    return 1.0 - (1.0 - dark_count_probability) ** 2 * math.exp(-efficiency * mean)


def error_rate(mean: float, efficiency: float, dark_count_probability: float, misalignment: float) -> float:
    """E of clicks in equal bases, for threshold detectors with random bits for double clicks.

    The wrong and the right detector see independent Poisson light, so E Q = D_w (1 − D_r/2); to first order in ηk this
    is E Q = Y0/2 + e_d (1 − e^(−ηk)) of Ma et al. (2005).
    """
    quiet = 1.0 - dark_count_probability
    wrong = 1.0 - quiet * math.exp(-efficiency * mean * misalignment)
    right = 1.0 - quiet * math.exp(-efficiency * mean * (1.0 - misalignment))
    return wrong * (1.0 - right / 2.0) / gain(mean, efficiency, dark_count_probability)


def poisson(mean: float) -> Floats:
    """Chance of 0 … 63 photons in a pulse; what is beyond counts as 63."""
    numbers = np.arange(PHOTON_CELLS)
    if mean <= 0.0:
        return np.asarray(numbers == 0, np.float64)
    log_factorials = np.concatenate(([0.0], np.cumsum(np.log(numbers[1:]))))
    chances = np.exp(numbers * math.log(mean) - mean - log_factorials)
    chances[-1] = max(0.0, 1.0 - float(chances[:-1].sum()))
    return np.asarray(chances, np.float64)


def survivors(efficiency: float) -> Floats:
    """Chance [n, m] that m of n photons come through: the binomial law, for n and m up to 63."""
    chances = np.zeros((PHOTON_CELLS, PHOTON_CELLS))
    chances[0, 0] = 1.0
    for number in range(1, PHOTON_CELLS):
        chances[number] = chances[number - 1] * (1.0 - efficiency)
        chances[number, 1:] += chances[number - 1, :-1] * efficiency
    return chances


def split(signal: float, transmitted: float, efficiency: float) -> Floats:
    """Photon-number splitting: chance [n] that Eve lets something of a pulse of n photons go on, without loss.

    She keeps one photon of each pulse of several until the bases are announced, and blocks single photons as far as the
    click rate of the largest intensity `signal` stays what the fibre (`transmitted`) made it; where pulses of several
    photons alone would make more clicks, she blocks a share of those as well. Other intensities then show other rates,
    which is what decoy states are for (Hwang, Phys. Rev. Lett. 91, 057901 (2003)).
    """
    numbers = np.arange(PHOTON_CELLS)
    chances = poisson(signal) * -np.expm1(np.maximum(numbers - 1, 0) * math.log1p(-min(efficiency, 1 - 1e-12)))
    several = float(chances[2:].sum())
    single = float(poisson(signal)[1]) * efficiency
    wanted = -math.expm1(-signal * transmitted * efficiency)
    passed = np.full(PHOTON_CELLS, min(1.0, wanted / several) if several > 0 else 1.0)
    passed[0] = 0.0
    passed[1] = min(1.0, max(0.0, wanted - several) / single) if single > 0 else 1.0
    return passed
