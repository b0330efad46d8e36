"""Alice's source, the fibre and who sits on it: what light arrives in which slots, and what Alice chose for it.

Only slots in which light may arrive are drawn. Candidates come with the chance of the intensity that arrives most
often; Alice chooses for each, from her secret, and it is kept with the exact chance of what she sent, so that kept and
dropped slots together are what a pulse in every slot would give. Photons that fibre and receiver lose are never
drawn: losses commute with all else, so the receiver's is applied here too (`Receiving`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qedge_drivers.sim_qkd import kernels
from qedge_drivers.sim_qkd.compiled import seen
from qedge_drivers.sim_qkd.drbg import CtrDrbg
from qedge_drivers.sim_qkd.gaps import fill_gaps
from qedge_drivers.sim_qkd.philox import Philox
from qedge_drivers.sim_qkd.physics import PHOTON_CELLS, Bytes, Floats, poisson, split, survivors

_CHUNK: Final = 1 << 15
_HALF: Final = 1 << 31
_COARSE: Final = 1e-3
"""Chance of a candidate from which 32 random bits give gaps true to 2⁻³² / p, which no count can tell from exact."""

INTERCEPT: Final = "intercept"
SPLIT: Final = "split"
BLIND: Final = "blind"


@dataclass(frozen=True)
class Receiving:
    """What the receiver does to light before it detects any: share of photons seen, and of slots in which it looks."""

    efficiency: float = 1.0
    duty: float = 1.0


@dataclass(frozen=True)
class Source:
    """What Alice sends into the fibre and what becomes of it there; lists go by intensity, largest first.

    `transmittance` is that of the fibre, 0 where it is cut. Eve attacks a share `eve_fraction` of the pulses.
    """

    mean_photon_numbers: Sequence[float]
    intensity_probabilities: Sequence[float]
    z_basis_probability: float
    transmittance: float
    attack: str = INTERCEPT
    eve_fraction: float = 0.0

    @property
    def blinds(self) -> bool:
        """Whether light blinds the receiver's detectors."""
        return self.attack == BLIND and self.eve_fraction > 0.0 and self.transmittance > 0.0

    @property
    def intercepted(self) -> float:
        """Share of the pulses whose polarisation Eve measures."""
        return 1.0 if self.blinds else self.eve_fraction if self.attack == INTERCEPT else 0.0

    def photons(self, efficiency: float) -> Floats:
        """Chance [k, m] that a pulse of intensity k makes the receiver see m photons, in a slot in which it looks.

        A pulse that steers blinded detectors counts as one photon here.
        """
        honest = np.stack([poisson(mean * self.transmittance * efficiency) for mean in self.mean_photon_numbers])
        if self.blinds:
            sent = self.eve_fraction * -np.expm1(-np.asarray(self.mean_photon_numbers, np.float64))
            steered = np.zeros_like(honest)
            steered[:, 0], steered[:, 1] = 1.0 - sent, sent
            return steered
        if self.attack != SPLIT or self.eve_fraction <= 0.0 or self.transmittance <= 0.0:
            return honest
        passed = split(self.mean_photon_numbers[0], self.transmittance, efficiency)
        left = np.maximum(np.arange(PHOTON_CELLS) - 1, 0)
        left[1] = 1
        arriving = survivors(efficiency)[left] * passed[:, np.newaxis]
        arriving[:, 0] += 1.0 - passed
        attacked = np.stack([poisson(mean) for mean in self.mean_photon_numbers]) @ arriving
        return np.asarray((1.0 - self.eve_fraction) * honest + self.eve_fraction * attacked, np.float64)


class Odds:
    """A source seen by a receiver, as thresholds for the inner loop."""

    def __init__(self, source: Source, receiving: Receiving) -> None:
        chances = source.photons(receiving.efficiency)
        light = chances[:, 1:].sum(axis=1)
        shares = np.asarray(source.intensity_probabilities, np.float64)
        brightest = float(light.max())
        self.candidate = min(1.0, brightest * receiving.duty)
        self.light = float(np.dot(shares, light)) * receiving.duty
        self.borders = _borders(shares, source.z_basis_probability)
        weights = shares * chances[:, 0]
        total = float(weights.sum())
        self.dark_borders = _borders(weights / total if total > 0 else shares, source.z_basis_probability)
        cumulative = np.concatenate((np.zeros((len(shares), 1)), np.cumsum(chances[:, 1:], axis=1)), axis=1)
        relative = cumulative / brightest if brightest > 0 else cumulative
        self.tables = np.rint(np.minimum(relative, 1.0) * 2.0**32).astype(np.int64).ravel() - _HALF
        self.eve_share = round(source.intercepted * 2**30)
        self.blinds = source.blinds


def _borders(shares: Floats, z_basis_probability: float) -> NDArray[np.int64]:
    joint: Floats = np.outer(shares, (z_basis_probability, 1.0 - z_basis_probability)).ravel()
    return np.asarray(np.rint(np.minimum(np.cumsum(joint)[:-1], 1.0) * _HALF), np.int64)


def choices_in_the_dark(secret: CtrDrbg, borders: NDArray[np.int64], number: int) -> Bytes:
    """Draw Alice's choices for slots known to have been dark; `borders` are `Odds.dark_borders`."""
    words = np.empty(number, np.int32)
    secret.fill(words)
    cells = np.searchsorted(borders, words & 0x7FFF_FFFF, side="right")
    return np.asarray(cells >> 1 << 2 | (cells & 1) << 1 | (words >> 31 & 1), np.uint8)


class Emitter:
    """Draws block after block of light. For one thread; what `emit` returns is valid until it is called again."""

    def __init__(self, philox: Philox, secret: CtrDrbg) -> None:
        self._philox = philox
        self._secret = secret
        self._random = np.empty((4, _CHUNK), np.uint32)
        self._secrets = np.empty(_CHUNK, np.int32)
        self._reals = np.empty((2, _CHUNK), np.float64)
        self._scratch = (
            seen(np.empty(_CHUNK, np.uint32)),
            seen(np.empty(_CHUNK, np.int32)),
            seen(np.empty(_CHUNK, np.int32)),
        )
        self._words = np.empty(0, np.int32)
        self._offsets = np.empty(0, np.uint32)
        self._choices = np.empty(0, np.uint8)

    def emit(self, odds: Odds, num_slots: int) -> tuple[NDArray[np.int32], NDArray[np.uint32], Bytes]:
        """Return words of light (see `kernels`), and slots counted from the block's first with Alice's choices."""
        state = np.array([-1, -1, 0, 0], np.int64)
        while odds.candidate > 0.0 and int(state[0]) < num_slots:
            expected = (num_slots - int(state[0])) * odds.candidate
            number = min(_CHUNK, int(expected + 5.0 * expected**0.5) + 8 & ~1)
            self._reserve(int(state[2]) + number + num_slots // kernels.MAX_GAP + 1, int(state[2]))
            self._chunk(odds, num_slots, number, state)
        return self._words[: int(state[2])], self._offsets[: int(state[3])], self._choices[: int(state[3])]

    def _reserve(self, number: int, held: int) -> None:
        if len(self._words) >= number:
            return
        for name in ("_words", "_offsets", "_choices"):
            old = getattr(self, name)
            new = np.empty(2 * number, old.dtype)
            new[:held] = old[:held]
            setattr(self, name, new)

    def _chunk(self, odds: Odds, num_slots: int, number: int, state: NDArray[np.int64]) -> None:
        """Draw so many candidates, an even number, and write down those that are light."""
        gaps, real = (row[:number] for row in self._reals)
        numbers, eve, high, low = (row[:number] for row in self._random)
        if odds.eve_share or odds.candidate < _COARSE:
            self._philox.fill(numbers, eve, high, low)
        else:
            # Half the words will do: gaps of frequent events need no more than 32 bits, and there is no Eve to move.
            half = number // 2
            self._philox.fill(numbers[:half], numbers[half:], high[:half], high[half:])
            low[:] = _HALF
        fill_gaps(high, low, odds.candidate, gaps, real)
        secret = self._secrets[:number]
        self._secret.fill(secret)
        kernels.thin(
            seen(gaps),
            (seen(numbers.view(np.int32)), seen(eve.view(np.int32))),
            seen(secret),
            seen(odds.borders),
            seen(odds.tables),
            seen(np.array([num_slots, odds.eve_share, odds.blinds], np.int64)),
            seen(state),
            seen(self._words),
            seen(self._offsets),
            seen(self._choices),
            self._scratch,
        )
