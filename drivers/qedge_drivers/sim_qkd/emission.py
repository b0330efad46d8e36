"""Inner loops of Alice's half: slots that hold light, what she chose for each, and what leaves the fibre.

In the part of Python that numba compiles; random words, choices and words of light are those of `kernels`.
"""

from __future__ import annotations

import math
from typing import Any, Final

from qedge_drivers.sim_qkd.compiled import jit

Numbers = Any  # as in `kernels`

BRIGHT: Final = 63
"""Photon number of a pulse that is no weak pulse at all, such as those that steer blinded detectors."""
MAX_GAP: Final = (1 << 23) - 1
PHOTON_CELLS: Final = 64
LONG_GAP: Final = 65535
LONGEST_GAP: Final = 2.0**40
"""Longer gaps are cut; no block of light has so many slots."""
UNDECIDED: Final = 255
_LOW_16: Final = 0xFFFF
_LOW_15: Final = 0x7FFF
_LOW_30: Final = 0x3FFF_FFFF


@jit
def gap_of(high: int, low: int, table: Numbers, scale: float) -> int:
    """Return the gap for u = (high·2²¹ + upper 21 bits of low + ½) / 2⁵³, both words signed 32 bits."""
    gap: int = 0 + table[high >> 16 & 0xFFFF]
    if gap == LONG_GAP:
        uniform = ((high & 0xFFFF_FFFF) << 21 | (low >> 11 & 0x1F_FFFF)) + 0.5
        gap = int(min(math.log(uniform * 2.0**-53) * scale, LONGEST_GAP))
    return gap


@jit
def fill_gaps(high: Numbers, low: Numbers, table: Numbers, scale: float, out: Numbers) -> None:
    """Write the gap for each pair of words into `out` (i64)."""
    for i in range(len(out)):
        out[i] = gap_of(high[i], low[i], table, scale)


@jit
def _cell(upper: int, lower: int, borders: Numbers) -> int:
    """Say into which cell between `borders` 31 bits fall, given as the upper 15 and the lower 16."""
    cell = 0
    for j in range(len(borders)):
        cell += (upper << 16 | lower & _LOW_16) >= borders[j]
    return cell


@jit
def _photons(number: int, tables: Numbers, row: int) -> int:
    photons = 1
    while number >= tables[row + photons]:
        photons += 1
    return photons


@jit
def _slots(
    high: Numbers, low: Numbers, gaps: Numbers, scale: float, num_slots: int, slot: int, offsets: Numbers
) -> tuple[int, int]:
    """Write slots down, each a gap after the one before; return how many are within the block, and the last drawn."""
    for i in range(len(high)):
        slot += 1 + gap_of(high[i], low[i], gaps, scale)
        if slot >= num_slots:
            return i, slot
        offsets[i] = slot
    return len(high), slot


@jit
def _choose(secret: Numbers, fine: Numbers, borders: Numbers, table: Numbers, number: int, choices: Numbers) -> None:
    """Write Alice's choices down."""
    undecided = 0
    for i in range(number):
        cell = 0 + table[secret[i] & _LOW_15]
        if cell == UNDECIDED:
            cell = _cell(secret[i] & _LOW_15, fine[undecided], borders)
            undecided = min(undecided + 1, len(fine) - 1)
        choices[i] = cell >> 1 << 2 | (cell & 1) << 1 | (secret[i] >> 15 & 1)


@jit
def _single(offsets: Numbers, choices: Numbers, last: int, words: Numbers) -> int:
    """Write a word for each pulse as if it were a single photon, many at once; return the longest gap."""
    longest = 0
    for i in range(len(offsets)):
        gap = (0 + offsets[i]) - (last if i == 0 else 0 + offsets[i - 1])
        longest = max(longest, gap)
        words[i] = min(gap, MAX_GAP) << 8 | 1 << 2 | choices[i] & 3
    return longest


@jit
def _several(numbers: Numbers, choices: Numbers, tables: Numbers, words: Numbers) -> None:
    """Put the number of photons into words where there are more than one."""
    for i in range(len(choices)):
        row = (choices[i] >> 2) * PHOTON_CELLS
        if numbers[i] >= tables[row + 1]:
            words[i] += (_photons(numbers[i], tables, row) - 1) << 2


@jit
def _light(
    numbers: Numbers, offsets: Numbers, choices: Numbers, tables: Numbers, bright: int, last: int, words: Numbers
) -> int:
    """Write words of light down; return how many there are beside one for each pulse."""
    if not bright and _single(offsets, choices, last, words) <= MAX_GAP:
        _several(numbers, choices[: len(offsets)], tables, words)
        return 0
    empty = 0
    for i in range(len(offsets)):
        photons, gap = BRIGHT, offsets[i] - last
        if not bright:
            photons = _photons(numbers[i], tables, (choices[i] >> 2) * PHOTON_CELLS)
        while gap > MAX_GAP:
            words[i + empty] = MAX_GAP << 8
            empty, gap = empty + 1, gap - MAX_GAP
        words[i + empty] = gap << 8 | photons << 2 | choices[i] & 3
        last = 0 + offsets[i]
    return empty


@jit
def _intercept(eve: Numbers, share: int, number: int, words: Numbers) -> None:
    """Put the state into pulses in which Eve found it, in another basis than Alice's."""
    place = 0
    for i in range(number):
        while words[place] >> 2 & 63 == 0:
            place += 1
        if eve[i] & _LOW_30 < share and (eve[i] >> 30 & 2) != (words[place] & 2):
            words[place] = words[place] & ~3 | eve[i] >> 30 & 3
        place += 1


@jit
def shine(
    random: Numbers,
    gaps: Numbers,
    scale: float,
    secret: Numbers,
    fine: Numbers,
    borders: Numbers,
    table: Numbers,
    tables: Numbers,
    figures: Numbers,
    state: Numbers,
    words: Numbers,
    offsets: Numbers,
    choices: Numbers,
) -> None:
    """Write down slots that are light, what Alice chose for each and what leaves the fibre, until the block ends.

    `random[0]` decides on the photon number: it is below tables[k·64 + m] where light of intensity k is of at most m
    photons; `random[1]` is Eve's: 30 bits say whether she intercepts, two what she sees; `gaps` and `scale` make
    empty slots of `random[2:]`, see `gap_of`. `secret` are Alice's choices: 15 bits for intensity and basis together,
    one for the bit. `table` knows the cell between `borders` for all of these 15 bits but those with a border inside,
    `UNDECIDED`; then `fine` gives 16 more. `figures`: number of slots, share of Eve (2⁻³⁰), whether pulses are bright.
    `state`: slots of the last draw and of the last light, numbers of words and of pulses written.
    """
    words, offsets, choices = words[state[2] :], offsets[state[3] :], choices[state[3] :]
    number, state[0] = _slots(random[2], random[3], gaps, scale, figures[0], state[0], offsets)
    _choose(secret, fine, borders, table, number, choices)
    empty = _light(random[0], offsets[:number], choices, tables, figures[2], state[1], words)
    if figures[1] > 0:
        _intercept(random[1], figures[1], number, words)
    state[1] = offsets[number - 1] if number > 0 else state[1]
    state[2], state[3] = state[2] + number + empty, state[3] + number
