"""Alice's source, the fibre and who sits on it: what light arrives in which slots, and what Alice chose for it.

Only slots in which light arrives are drawn, by the chance of that in any slot. What Alice sent there she chooses from
her secret with the chance that each choice has given that light came, as she does later for slots that stayed dark
(`Odds.dark_borders`): the joint law of slots and choices is that of a choice in every slot. Photons that fibre and
receiver lose are never drawn: losses commute with all else, so the receiver's is applied here too (`Receiving`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qedge_drivers.sim_qkd import emission
from qedge_drivers.sim_qkd.compiled import seen
from qedge_drivers.sim_qkd.drbg import REQUEST_BYTES, CtrDrbg
from qedge_drivers.sim_qkd.gaps import gap_table, scale_of
from qedge_drivers.sim_qkd.philox import Philox
from qedge_drivers.sim_qkd.physics import PHOTON_CELLS, Bytes, Floats, poisson, split, survivors

FINE: Final = 128
"""Choices of one chunk that may need more than 15 bits; with a few borders among 2¹⁵ cells it is about one a border."""
_CHUNK: Final = 2 * REQUEST_BYTES // 2 - FINE
"""Pulses done at a time, which stay in the processor's cache: one request of secret choices, 2 bytes each."""
_HALF: Final = 1 << 31
_COARSE: Final = 1e-3
"""Chance of light from which 32 random bits give gaps true to 2⁻³² / p, which no count can tell from exact."""

Columns = tuple[NDArray[np.uint32], Bytes]

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
        shares = np.asarray(source.intensity_probabilities, np.float64)
        lights = chances[:, 1:].sum(axis=1)
        self.light = min(1.0, float(np.dot(shares, lights)) * receiving.duty)
        """Chance of light in a slot in which the receiver looks."""
        self.gaps = gap_table(self.light)
        self.gap_scale = scale_of(self.light)
        self.borders = _borders(_given(shares, lights), source.z_basis_probability)
        self.cells = _cells(self.borders)
        self.dark_borders = _borders(_given(shares, chances[:, 0]), source.z_basis_probability)
        most = np.cumsum(chances, axis=1) - chances[:, :1]
        most = np.divide(most, most[:, -1:], out=np.ones_like(most), where=most[:, -1:] > 0)
        self.tables = np.rint(np.minimum(most, 1.0) * 2.0**32).astype(np.int64).ravel() - _HALF
        self.eve_share = round(source.intercepted * 2**30)
        self.blinds = source.blinds


def _given(shares: Floats, chances: Floats) -> Floats:
    """Return the shares of intensities where something happened that has these chances."""
    weights = shares * chances
    total = float(weights.sum())
    return np.asarray(weights / total if total > 0 else shares, np.float64)


def _borders(shares: Floats, z_basis_probability: float) -> NDArray[np.int64]:
    joint: Floats = np.outer(shares, (z_basis_probability, 1.0 - z_basis_probability)).ravel()
    return np.asarray(np.rint(np.minimum(np.cumsum(joint)[:-1], 1.0) * _HALF), np.int64)


def _cells(borders: NDArray[np.int64]) -> Bytes:
    """Cell of each number of 31 bits by its upper 15; `UNDECIDED` where the lower ones matter."""
    edges = np.arange(1 << 15, dtype=np.int64) << 16
    first = np.searchsorted(borders, edges, side="right")
    last = np.searchsorted(borders, edges | 0xFFFF, side="right")
    return np.where(first == last, first, emission.UNDECIDED).astype(np.uint8)


def choices_in_the_dark(secret: CtrDrbg, borders: NDArray[np.int64], number: int) -> Bytes:
    """Draw Alice's choices for slots known to have been dark; `borders` are `Odds.dark_borders`."""
    words = np.empty(number, np.int32)
    secret.fill(words)
    cells = np.searchsorted(borders, words & 0x7FFF_FFFF, side="right")
    return np.asarray(cells >> 1 << 2 | (cells & 1) << 1 | (words >> 31 & 1), np.uint8)


def _columns(number: int) -> Columns:
    return np.empty(number, np.uint32), np.empty(number, np.uint8)


class Emitter:
    """Draws block after block of light. For one thread."""

    def __init__(self, philox: Philox, secret: CtrDrbg) -> None:
        self._philox = philox
        self._secret = secret
        self._random = [np.empty(_CHUNK, np.uint32) for _ in range(4)]
        self._secrets = np.empty(_CHUNK + FINE, np.int16)
        self._words = np.empty(0, np.int32)

    def emit(self, odds: Odds, num_slots: int) -> tuple[NDArray[np.int32], NDArray[np.uint32], Bytes]:
        """Return words of light (see `kernels`), and slots counted from the block's first with Alice's choices.

        The words are valid until it is called again; the other arrays are the caller's.
        """
        state = np.array([-1, -1, 0, 0], np.int64)
        likely = num_slots * odds.light
        ledger = _columns(int(likely + 6.0 * likely**0.5) + _CHUNK)
        while odds.light > 0.0 and int(state[0]) < num_slots:
            expected = (num_slots - int(state[0])) * odds.light
            number = min(_CHUNK, int(expected + 5.0 * expected**0.5) + 8 & ~1)
            words, pulses = int(state[2]), int(state[3])
            if len(self._words) < words + number + num_slots // emission.MAX_GAP + 1:
                grown = np.empty(2 * (words + number) + num_slots // emission.MAX_GAP + 1, np.int32)
                grown[:words], self._words = self._words[:words], grown
            if len(ledger[0]) < pulses + number:
                held, ledger = ledger, _columns(2 * (pulses + number))
                ledger[0][:pulses], ledger[1][:pulses] = held[0][:pulses], held[1][:pulses]
            self._chunk(odds, num_slots, number, state, ledger)
        pulses = int(state[3])
        return self._words[: int(state[2])], ledger[0][:pulses], ledger[1][:pulses]

    def _chunk(self, odds: Odds, num_slots: int, number: int, state: NDArray[np.int64], ledger: Columns) -> None:
        """Draw so many pulses that arrive, an even number, and write down those within the block."""
        random = tuple(row[:number] for row in self._random)
        if odds.eve_share or odds.light < _COARSE:
            self._philox.fill(*random)
        else:
            # Half the words will do: gaps of frequent events need no more than 32 bits, and there is no Eve to move.
            half = number // 2
            self._philox.fill(random[0][:half], random[0][half:], random[2][:half], random[2][half:])
            random[3][:] = _HALF
        secret = self._secrets[: number + FINE]
        self._secret.fill(secret)
        emission.shine(
            tuple(seen(row.view(np.int32)) for row in random),
            seen(odds.gaps),
            odds.gap_scale,
            seen(secret[:number]),
            seen(secret[number:]),
            seen(odds.borders),
            seen(odds.cells),
            seen(odds.tables),
            seen(np.array([num_slots, odds.eve_share, odds.blinds], np.int64)),
            seen(state),
            seen(self._words),
            seen(ledger[0]),
            seen(ledger[1]),
        )
