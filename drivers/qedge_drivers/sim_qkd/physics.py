"""Decoy-state BB84 with weak coherent pulses: what leaves the fibre, and what threshold detectors make of it.

Only slots in which something happens are drawn: the gaps between them are geometric, exactly so for independent slots.
A phase-randomised pulse of mean photon number k is a Poisson mixture of photon numbers, and stays one, of mean k·t,
behind a fibre of transmittance t (Ma, Qi, Zhao, Lo, Phys. Rev. A 72, 012326 (2005)); with double-detector background
Y0 = 1 − (1−p_d)² the gain of intensity k is Q = 1 − (1−Y0) e^(−ηk) (the exact form; Lim et al., Phys. Rev. A 89,
022307 (2014) use it with one detector).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RandomBytes = Callable[[int], bytes]
Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]

MAX_PHOTONS = 63
"""Photons of one pulse beyond this are not simulated; at a mean of 10 their chance is below 1e-26."""


@dataclass(frozen=True)
class Source:
    """What Alice sends into the fibre: `transmittance` is that of the fibre, lists go by intensity."""

    mean_photon_numbers: Sequence[float]
    intensity_probabilities: Sequence[float]
    z_basis_probability: float
    transmittance: float
    eve_fraction: float = 0.0

    def arrivals(self) -> NDArray[np.float64]:
        """Mean photons behind the fibre, by intensity."""
        return np.asarray(self.mean_photon_numbers, np.float64) * self.transmittance

    def light_probability(self) -> float:
        """Chance that at least one photon of a slot leaves the fibre."""
        return float(np.dot(self.intensity_probabilities, -np.expm1(-self.arrivals())))

    def posterior(self, *, light: bool) -> NDArray[np.float64]:
        """Chance of each intensity given that light does, or does not, leave the fibre (Bayes)."""
        likelihood = -np.expm1(-self.arrivals()) if light else np.exp(-self.arrivals())
        weights = np.asarray(self.intensity_probabilities, np.float64) * likelihood
        total = weights.sum()
        return np.asarray(weights / total if total > 0 else self.intensity_probabilities, np.float64)


@dataclass(frozen=True)
class Receiver:
    """Bob's detectors: `dark_count_probability` per detector and slot, `dead_slots` after a click of either."""

    z_basis_probability: float
    efficiency: float
    dark_count_probability: float
    misalignment: float
    dead_slots: int


@dataclass(frozen=True)
class Pulses:
    """What the fibre carries in one block: increasing slot offsets, photons (≥ 1), states (basis·2 + bit)."""

    offsets: Offsets
    photons: Bytes
    states: Bytes


@dataclass(frozen=True)
class Clicks:
    """What the receiver saw in one block: `bits` are 0 or 1; 2 or 3 mark a random bit given for a double click."""

    offsets: Offsets
    bases: Bytes
    bits: Bytes


_CELLS = 1 << 15


def transmittance(length_km: float, loss_db_per_km: float) -> float:
    """Share of the photons that a fibre lets through."""
    return float(10.0 ** (-length_km * loss_db_per_km / 10.0))


def gain(mean: float, efficiency: float, dark_count_probability: float) -> float:
    """Q = 1 − (1−Y0) e^(−ηk): chance of a click; `mean` at Alice, `efficiency` of fibre and detector together."""
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


def happenings(physics: np.random.Generator, chance: float, num_slots: int) -> Offsets:
    """Draw the slots, of `num_slots`, in which something of probability `chance` per slot happens."""
    if chance <= 0.0 or num_slots <= 0:
        return np.empty(0, np.int64)
    parts: list[Offsets] = []
    last = -1
    while last < num_slots:
        expected = (num_slots - last) * chance
        number = int(expected + 4.0 * math.sqrt(expected)) + 4
        # A gap beyond the block is as good as any other, so it is cut before the sum can overflow.
        slots = last + np.cumsum(np.minimum(physics.geometric(chance, number), num_slots + 1))
        parts.append(slots)
        last = int(slots[-1])
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def within(slots: Offsets, num_slots: int) -> Offsets:
    """Cut increasing `slots` at the end of the block."""
    return slots[: int(np.searchsorted(slots, num_slots))]


def prepare(secret: RandomBytes, source: Source, number: int, *, light: bool) -> Bytes:
    """Draw Alice's choices for `number` pulses: intensity·4 + basis·2 + bit each.

    Two secret bytes a pulse: one bit for the bit, 15 for intensity and basis together. The few of these 2¹⁵ cells that
    hold the border between two outcomes are settled by four bytes more, so that rare outcomes keep their chance.
    """
    z_basis = source.z_basis_probability
    joint = np.outer(source.posterior(light=light), (z_basis, 1.0 - z_basis)).ravel()
    borders = np.cumsum(joint)[:-1] * _CELLS
    words = np.frombuffer(secret(2 * number), "<u2")
    outcomes = np.searchsorted(borders, np.arange(_CELLS + 1), side="right")
    cells = words >> 1
    drawn = outcomes[cells]
    split = np.flatnonzero((outcomes[1:] != outcomes[:-1])[cells])
    finer = np.frombuffer(secret(4 * len(split)), "<u4") / 2.0**32 if len(split) else np.empty(0)
    drawn[split] = np.searchsorted(borders, cells[split] + finer, side="right")
    return np.asarray(drawn << 1 | (words & 1).astype(np.intp), np.uint8)


def emit(physics: np.random.Generator, secret: RandomBytes, source: Source, num_slots: int) -> tuple[Pulses, Bytes]:
    """Draw what leaves the fibre in a block, with Alice's choices (see `prepare`) for those slots."""
    offsets = within(happenings(physics, source.light_probability(), num_slots), num_slots)
    choices = prepare(secret, source, len(offsets), light=True)
    photons = _photons(physics, source.arrivals(), choices >> np.uint8(2))
    states = _intercept(physics, choices & np.uint8(3), source.eve_fraction)
    return Pulses(offsets, photons, states), choices


def _photons(physics: np.random.Generator, arrivals: NDArray[np.float64], intensities: Bytes) -> Bytes:
    """Draw Poisson photon numbers given that they are not zero, by inversion."""
    uniform = physics.random(len(intensities))
    photons = np.ones(len(intensities), np.uint8)
    for index, mean in enumerate(arrivals.tolist()):
        if mean <= 0.0:
            continue
        numbers = np.arange(1, MAX_PHOTONS)
        log_factorials = np.cumsum(np.log(numbers))
        steps = np.cumsum(np.exp(numbers * math.log(mean) - mean - log_factorials)) / -math.expm1(-mean)
        chosen = intensities == index
        photons[chosen] = 1 + np.searchsorted(steps, uniform[chosen], side="right")
    return photons


def _intercept(physics: np.random.Generator, states: Bytes, fraction: float) -> Bytes:
    """Eve measures a share of the pulses in a random basis and sends on what she saw, as bright as it came."""
    if fraction <= 0.0:
        return states
    dice = physics.integers(0, 4, len(states), np.uint8)
    guess = dice & 2
    seen = np.where(guess == states & 2, states, guess | (dice & 1))
    return np.where(physics.random(len(states)) < fraction, seen, states).astype(np.uint8)


def _binomial(physics: np.random.Generator, numbers: Bytes, chances: NDArray[np.float64]) -> Bytes:
    """Draw a binomial for each pair; single photons, nearly all of them, the quick way."""
    drawn = (physics.random(len(numbers)) < chances).astype(np.uint8)
    many = np.flatnonzero(numbers != 1)
    drawn[many] = physics.binomial(numbers[many], chances[many])
    return drawn


def detect(
    physics: np.random.Generator, secret: RandomBytes, receiver: Receiver, pulses: Pulses, num_slots: int
) -> Clicks:
    """Measure a block: each photon obeys Born's rule in the basis that Bob drew; dead time is not applied yet."""
    seen = _binomial(physics, pulses.photons, np.full(len(pulses.photons), receiver.efficiency))
    lit = np.flatnonzero(seen)
    dark = [within(happenings(physics, receiver.dark_count_probability, num_slots), num_slots) for _ in range(2)]
    offsets = pulses.offsets[lit]
    if len(dark[0]) or len(dark[1]):
        offsets = np.union1d(offsets, np.concatenate(dark))
    words = np.frombuffer(secret(4 * len(offsets)), "<u4")
    bases = ((words >> 1) >= round(receiver.z_basis_probability * 0x8000_0000)).astype(np.uint8)
    where = np.searchsorted(offsets, pulses.offsets[lit])
    states, number = pulses.states[lit], seen[lit]
    # Equal bases: the bit decides, but for misalignment. Unequal ones: an even chance (Born's rule for BB84 states).
    straight = np.where(states & 1, 1.0 - receiver.misalignment, receiver.misalignment)
    ones = _binomial(physics, number, np.where(bases[where] == states >> 1, straight, 0.5))
    clicks = np.zeros((2, len(offsets)), np.bool_)
    clicks[0, where] = ones < number
    clicks[1, where] = ones > 0
    for detector in range(2):
        clicks[detector, np.searchsorted(offsets, dark[detector])] = True
    double = clicks[0] & clicks[1]
    bits = np.where(double, 2 | words & 1, clicks[1]).astype(np.uint8)
    return Clicks(offsets, bases, bits)


def after_dead_time(clicks: Clicks, dead_slots: int, blind_until: int) -> tuple[Clicks, int]:
    """Drop clicks of a blind receiver; `blind_until` is its first live offset, returned for the next block to go on."""
    if dead_slots <= 0 and blind_until <= 0:
        return clicks, 0
    live: list[int] = []
    for index, offset in enumerate(clicks.offsets.tolist()):
        if offset >= blind_until:
            live.append(index)
            blind_until = offset + 1 + dead_slots
    return Clicks(clicks.offsets[live], clicks.bases[live], clicks.bits[live]), blind_until
