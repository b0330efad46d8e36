"""Bob's receiver: threshold detectors with dark counts, after-pulses and dead time, measured click by click."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qedge_drivers.sim_qkd import kernels
from qedge_drivers.sim_qkd.compiled import seen
from qedge_drivers.sim_qkd.drbg import REQUEST_BYTES, CtrDrbg
from qedge_drivers.sim_qkd.philox import Philox
from qedge_drivers.sim_qkd.physics import Bytes
from qedge_drivers.sim_qkd.source import FINE

_SPARE: Final = 1 << 8
"""Clicks without light that one chunk of light has random words for; where there are more, it takes more chunks."""
_CHUNK: Final = 2 * REQUEST_BYTES // 2 - FINE - 2 * _SPARE
"""Words of light done at a time: one request of secret choices, 2 bytes each, 4 for what has no light."""

_HALF: Final = 1 << 31
_WORD: Final = 1 << 32

Rows = tuple[NDArray[np.int64], NDArray[np.int64]]
Dice = tuple[NDArray[np.signedinteger[Any]], ...]

# Places in the state of `kernels.detect`.
_SLOT, _INDEX, _DARK, _LIVE, _WAITING, _USED, _FOUND = range(7)


@dataclass(frozen=True)
class Receiver:
    """Bob's detectors: `dark_count_probability` per detector and slot, `dead_slots` of both after a click of either.

    `after_pulse_probability` of a further click of the same detector, on average `after_pulse_slots` after dead time.
    """

    z_basis_probability: float
    dark_count_probability: float = 0.0
    misalignment: float = 0.0
    dead_slots: int = 0
    after_pulse_probability: float = 0.0
    after_pulse_slots: float = 1.0


@dataclass(frozen=True)
class Incoming:
    """A block of light: words as in `kernels`, whether it blinds detectors, share of slots in which Bob looks."""

    first_slot: int
    num_slots: int
    words: NDArray[np.int32]
    blinds: bool = False
    duty: float = 1.0


@dataclass(frozen=True)
class Clicks:
    """Clicks in a stretch of slots; a double click carries a random bit.

    `live_slots`: those in which the receiver could click, or −1 where nobody knows.
    """

    first_slot: int
    num_slots: int
    slots: NDArray[np.int64]
    bases: Bytes
    bits: Bytes
    double_clicks: int
    live_slots: int = -1


class NoLightError(Exception):
    """What came are no words of light."""


class Detectors:
    """Measures block after block; blindness and after-pulses go on from one to the next where slots do."""

    def __init__(self, philox: Philox, darks: np.random.Generator, secret: CtrDrbg) -> None:
        self._philox = philox
        self._dark_dice = darks
        self._secret = secret
        self._pending = np.zeros(kernels.MAX_PENDING, np.int64), np.zeros(kernels.MAX_PENDING, np.int64)
        self._waiting = self._live = 0
        self._next_slot = -1
        self._rooms: list[tuple[NDArray[np.int64], Bytes]] = []
        self._secrets = np.zeros(0, np.int16), np.zeros(0, np.int32)
        self._physics = [np.zeros(0, np.int32)] * 3
        self._unused = np.zeros(0, np.uint32)

    def measure(self, receiver: Receiver, light: Incoming, most: int) -> list[Clicks]:
        """Measure a block, in stretches of at most `most` clicks; raises `NoLightError`.

        What it returns is valid until it is called again.
        """
        if light.first_slot != self._next_slot:
            self._waiting = self._live = 0
        run = _Run(receiver, light, self._darks(receiver, light))
        state = np.array([-1, 0, 0, self._live, self._waiting, 0, 0], np.int64)
        parts: list[Clicks] = []
        begin, ended = light.first_slot, False
        while not ended:
            room = self._room(len(parts), most)
            ended = self._stretch(run, state, *room)
            found = int(state[_FOUND])
            slots, marks = room[0][:found], room[1][:found]
            end = light.first_slot + light.num_slots if ended else int(slots[-1]) + 1
            bases, bits = np.empty(found, np.uint8), np.empty(found, np.uint8)
            doubles = int(kernels.part(seen(marks), seen(bases), seen(bits)))
            live = max(found, round(light.duty * max(0, end - begin - found * receiver.dead_slots)))
            parts.append(Clicks(begin, end - begin, slots, bases, bits, doubles, min(live, end - begin)))
            begin = end
        self._next_slot = light.first_slot + light.num_slots
        self._waiting = int(state[_WAITING])
        self._pending[0][: self._waiting] -= light.num_slots
        self._live = max(int(state[_LIVE]) - light.num_slots, 0)
        return parts

    def _room(self, place: int, most: int) -> tuple[NDArray[np.int64], Bytes]:
        """Return arrays for one stretch, the same for each block: fresh memory costs as much as its use."""
        if place == len(self._rooms):
            self._rooms.append((np.empty(0, np.int64), np.empty(0, np.uint8)))
        if len(self._rooms[place][0]) != most:
            self._rooms[place] = np.empty(most, np.int64), np.empty(most, np.uint8)
        return self._rooms[place]

    def _stretch(self, run: _Run, state: NDArray[np.int64], slots: NDArray[np.int64], marks: Bytes) -> bool:
        """Find clicks until there is no more room for them, or the block has ended; say whether it has."""
        state[_FOUND] = 0
        while True:
            number = min(_CHUNK, run.left)
            spare = _SPARE + int(2 * number * run.receiver.after_pulse_probability)
            self._draw(run.receiver, number, spare)
            light: Dice = (self._secrets[0][:number], *(row[:number] for row in self._physics))
            later = [row[number : number + spare] for row in self._physics]
            other: Dice = (self._secrets[1][:spare], *later)
            ended = run.detect(self._pending, light, other, self._secrets[0][number:], state, slots, marks)
            if ended or int(state[_FOUND]) == len(slots):
                return ended

    def _draw(self, receiver: Receiver, number: int, spare: int) -> None:
        """Draw secret choices and physics for so many events, the latter only as far as they are needed."""
        total = number + spare
        total += -total % 4
        if len(self._unused) < total:
            self._physics = [np.zeros(total, np.int32) for _ in range(3)]
            self._unused = np.zeros(total, np.uint32)
        secrets = np.empty(2 * spare + number + FINE, np.int16)
        self._secret.fill(secrets)
        self._secrets = secrets[2 * spare :], secrets[: 2 * spare].view(np.int32)
        rows = [row[:total].view(np.uint32) for row in self._physics]
        if receiver.after_pulse_probability > 0.0:
            self._philox.fill(self._unused[:total], *rows)
        else:
            self._philox.fill_one(rows[0])

    def _darks(self, receiver: Receiver, light: Incoming) -> Rows:
        """Draw dark counts: slots and detectors, in order, with an end behind the block."""
        chance = 0.0 if light.blinds else receiver.dark_count_probability * light.duty
        drawn = [happenings(self._dark_dice, chance, light.num_slots) for _ in range(2)]
        slots = np.concatenate([*drawn, [light.num_slots]])
        detectors = np.repeat([0, 1, 0], [len(drawn[0]), len(drawn[1]), 1])
        order = np.argsort(slots, kind="stable")
        return slots[order], detectors[order]


class _Run:
    """One block under measurement."""

    def __init__(self, receiver: Receiver, light: Incoming, darks: Rows) -> None:
        self.receiver = receiver
        self._words = light.words
        self._darks = darks
        after = 0.0 if light.blinds else receiver.after_pulse_probability
        self._figures = [
            light.num_slots,
            light.first_slot,
            round(receiver.z_basis_probability * _HALF),
            receiver.dead_slots,
            round(after * _WORD) - _HALF,
            int(light.blinds),
        ]
        wrong = round(receiver.misalignment * _WORD) - _HALF
        undecided = round(receiver.z_basis_probability * _HALF) >> 16
        self._thresholds = np.array([0, wrong, -wrong, undecided], np.int64)
        self._place = 0

    @property
    def left(self) -> int:
        """Words that are still to be measured."""
        return len(self._words) - self._place

    def detect(
        self,
        pending: Rows,
        random: Dice,
        spare: Dice,
        fine: NDArray[np.int16],
        state: NDArray[np.int64],
        slots: NDArray[np.int64],
        marks: Bytes,
    ) -> bool:
        """Go on measuring as far as random words reach; say whether the block is at its end. Raises `NoLightError`."""
        number = len(random[0])
        words = seen(self._words[self._place : self._place + number])
        is_last = self._place + number == len(self._words)
        figures = seen(np.array([*self._figures, is_last], np.int64))
        single = seen(np.empty(number, np.uint8))
        dice, other_dice = (tuple(map(seen, rows)) for rows in (random, spare))
        kernels.measure(words, dice, seen(fine), figures, seen(self._thresholds), single)
        sane = kernels.detect(
            words,
            single,
            dice,
            other_dice,
            tuple(map(seen, self._darks)),
            tuple(map(seen, pending)),
            figures,
            self.receiver.after_pulse_slots,
            seen(state),
            seen(slots),
            seen(marks),
        )
        if not sane:
            raise NoLightError
        self._place += int(state[_INDEX])
        full = int(state[_FOUND]) == len(slots) or int(state[_USED]) == len(spare[0])
        return is_last and int(state[_INDEX]) == number and not full


def happenings(dice: np.random.Generator, chance: float, num_slots: int) -> NDArray[np.int64]:
    """Draw the slots, of `num_slots`, in which something of probability `chance` per slot happens."""
    parts: list[NDArray[np.int64]] = []
    last = -1
    while chance > 0.0 and last < num_slots:
        expected = (num_slots - last) * chance
        number = int(expected + 4.0 * expected**0.5) + 4
        # A gap beyond the block is as good as any other, so it is cut before the sum can overflow.
        slots = last + np.cumsum(np.minimum(dice.geometric(chance, number), num_slots + 1))
        parts.append(slots)
        last = int(slots[-1])
    drawn = np.concatenate(parts) if parts else np.empty(0, np.int64)
    return drawn[: int(np.searchsorted(drawn, num_slots))]
