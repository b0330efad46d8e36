"""Inner loops of the simulation, in the part of Python that numba compiles; see `compiled`.

Each function works on numpy arrays when compiled and on memory views when interpreted, so both ways give the same
detections from the same random words. Random words are 32 bits seen as signed (int32), since numba turns sums of signed
and unsigned numbers into floating point; a threshold for a chance p of 32 bits is therefore p·2³² − 2³¹.

A choice of Alice is intensity·4 + basis·2 + bit, a state of light is basis·2 + bit. A word of light (int32) is
gap·256 + photons·4 + state: `gap` slots after the word before it (the first counts from slot −1), so many photons
(1 … 63) in that state. Photons 0 mark a stretch without light that is too long for one gap.
"""

from __future__ import annotations

import math
from typing import Any, Final

from qedge_drivers.sim_qkd.compiled import jit

Numbers = Any  # a numpy array when compiled, a memory view when interpreted: numba infers the type itself

MAX_GAP: Final = (1 << 23) - 1
PHOTON_CELLS: Final = 64
BRIGHT: Final = 63
"""Photon number of a pulse that is no weak pulse at all, such as those that steer blinded detectors."""
MAX_PENDING: Final = 4096
"""After-pulses that may be under way at once; any beyond are lost, which takes a rate that no detector survives."""
NO_CLICK: Final = 255
NO_LIGHT: Final = 255
_LOW_31: Final = 0x7FFF_FFFF
_LOW_30: Final = 0x3FFF_FFFF


@jit
def _fill_cells(secret: Numbers, borders: Numbers, cells: Numbers) -> None:
    """Say into which cell between `borders` the low 31 bits of each secret word fall."""
    for i in range(len(secret)):
        cells[i] = 0
    for j in range(len(borders)):
        border = borders[j]
        for i in range(len(secret)):
            cells[i] += secret[i] & _LOW_31 >= border


@jit
def _photons(number: int, tables: Numbers, row: int) -> int:
    photons = 1
    while number >= tables[row + photons]:
        photons += 1
    return photons


@jit
def _keep(
    gaps: Numbers, numbers: Numbers, cells: Numbers, tables: Numbers, num_slots: int, slot: int, kept: Numbers
) -> tuple[int, int, int]:
    """Write down which candidates are kept and their slots; return how many were used, are kept, and the last slot.

    A dropped one is written too, and written over by the next: cheaper than a branch that nobody can foresee.
    """
    places, slots = kept[0], kept[1]
    used = found = 0
    for i in range(len(gaps)):
        used += 1
        slot += 1 + int(gaps[i])
        if slot >= num_slots:
            break
        places[found], slots[found] = i, slot
        found += 1 if numbers[i] < tables[(cells[i] >> 1) * PHOTON_CELLS + PHOTON_CELLS - 1] else 0
    return used, found, slot


@jit
def thin(
    gaps: Numbers,
    random: Numbers,
    secret: Numbers,
    borders: Numbers,
    tables: Numbers,
    figures: Numbers,
    state: Numbers,
    words: Numbers,
    offsets: Numbers,
    choices: Numbers,
    scratch: Numbers,
) -> int:
    """Turn candidate slots into light; return how many candidates were used up (all of them: the block goes on).

    `gaps`: empty slots before each candidate. `random[0]` decides on thinning and photon number together: it is below
    tables[k·64 + m] where intensity k leaves 1 … m photons; `random[1]` is Eve's: 30 bits say whether she intercepts,
    two what she sees. `secret` are Alice's choices: 31 bits, against `borders`, for intensity and basis together, one
    for the bit. `figures`: number of slots, share of Eve (2⁻³⁰), whether pulses are bright. `state`: slots of the last
    candidate and of the last light, numbers of words and of pulses written. `scratch` are three
    arrays: places of those kept (unsigned, since such an index need not be checked for being negative), slots, cells.
    """
    numbers, eve, cells = random[0], random[1], scratch[2]
    eve_share, bright = figures[1], figures[2]
    last, word, pulse = state[1], state[2], state[3]
    _fill_cells(secret, borders, cells)
    used, number, state[0] = _keep(gaps, numbers, cells, tables, figures[0], state[0], scratch)
    places, slots = scratch[0], scratch[1]
    choices, offsets = choices[pulse : pulse + number], offsets[pulse : pulse + number]
    for k in range(number):
        i, slot = places[k], slots[k]
        intensity = cells[i] >> 1
        light = (cells[i] & 1) << 1 | (secret[i] >> 31 & 1)
        photons = BRIGHT
        if not bright:
            photons = _photons(numbers[i], tables, intensity * PHOTON_CELLS)
        choices[k], offsets[k] = intensity << 2 | light, slot
        if eve_share > 0 and eve[i] & _LOW_30 < eve_share and (eve[i] >> 30 & 2) != (light & 2):
            light = eve[i] >> 30 & 3
        while slot - last > MAX_GAP:
            words[word] = MAX_GAP << 8
            word, last = word + 1, last + MAX_GAP
        words[word] = (slot - last) << 8 | photons << 2 | light
        word, last = word + 1, slot
    state[1], state[2], state[3] = last, word, pulse + number
    return used


@jit
def _seen(photons: int, chance: float, drawn: float) -> int:
    """Measure several photons, each of which goes to detector 1 with a chance: 1 and 2 a detector clicks, 3 both do."""
    only_one = chance**photons
    return 2 if drawn < only_one else 1 if drawn < only_one + (1.0 - chance) ** photons else 3


@jit
def _marked(clicks: int, basis: int, secret: int) -> int:
    """Write clicks down as basis·4 + double·2 + bit; a double click gets a random bit."""
    return basis << 2 | (2 | (secret >> 31 & 1) if clicks == 3 else clicks >> 1)


@jit
def measure(words: Numbers, random: Numbers, figures: Numbers, thresholds: Numbers, marks: Numbers) -> None:
    """Measure each word of light by itself, by Born's rule in Bob's basis, for `detect` to see which clicks count.

    `random[0]` are Bob's secret choices: 31 bits for his basis, one for a double click; `random[1]` decides outcomes.
    `thresholds` for a one: in another basis, and for the states of 0 and 1 in the same. Blinded detectors click for
    bright pulses in their own basis alone; `NO_CLICK` says that none did.
    """
    secrets, outcomes = random[0], random[1]
    z_basis, blinded = figures[2], figures[5]
    half, zero, one = thresholds[0], thresholds[1], thresholds[2]
    for i in range(len(words)):  # as if each were a single photon: no branch, so that whole vectors are done at once
        basis = 1 if secrets[i] & _LOW_31 >= z_basis else 0
        straight = one if words[i] & 1 else zero
        threshold = straight if basis == words[i] >> 1 & 1 else half
        marks[i] = basis << 2 | (1 if outcomes[i] < threshold else 0)
    for i in range(len(words)):
        photons = words[i] >> 2 & 63
        if photons == 1 and not blinded:
            continue
        basis, bit = marks[i] >> 2, words[i] & 1
        same = basis == words[i] >> 1 & 1
        if photons == 0 or blinded:
            marks[i] = basis << 2 | bit if same and photons == BRIGHT else NO_CLICK
            continue
        threshold = (one if bit else zero) if same else half
        chance = (threshold + 2147483648.0) / 4294967296.0
        marks[i] = _marked(_seen(photons, chance, (outcomes[i] + 2147483648.5) / 4294967296.0), basis, secrets[i])


@jit
def _put_pending(at: int, detector: int, waiting: int, pending: Numbers) -> None:
    """Put an after-pulse into the queue, which is in order of time."""
    j = waiting
    while j > 0 and pending[0][j - 1] > at:
        pending[0][j], pending[1][j] = pending[0][j - 1], pending[1][j - 1]
        j -= 1
    pending[0][j], pending[1][j] = at, detector


@jit
def _take_pending(waiting: int, pending: Numbers) -> int:
    """Take the first after-pulse out of the queue; return the click it makes."""
    click = 1 << pending[1][0]
    for j in range(waiting - 1):
        pending[0][j], pending[1][j] = pending[0][j + 1], pending[1][j + 1]
    return int(click)


@jit
def _other_clicks(at: int, state: Numbers, darks: Numbers, pending: Numbers) -> int:
    """Take dark counts and after-pulses of slot `at` out of their queues; return the clicks they make."""
    clicks = 0
    while darks[0][state[2]] == at:
        clicks |= 1 << darks[1][state[2]]
        state[2] += 1
    while state[4] > 0 and pending[0][0] == at:
        clicks |= _take_pending(state[4], pending)
        state[4] -= 1
    return clicks


@jit
def _next_other(state: Numbers, darks: Numbers, pending: Numbers) -> int:
    """Return the slot of the next dark count or after-pulse."""
    other = darks[0][state[2]]
    if state[4] > 0 and pending[0][0] < other:
        other = pending[0][0]
    return int(other)


@jit
def _run_of_light(
    words: Numbers,
    marks: Numbers,
    afters: Numbers,
    bound: int,
    figures: Numbers,
    state: Numbers,
    slots: Numbers,
    kept: Numbers,
) -> bool:
    """Take light in slots before `bound` until something else is to be done; say whether it caused an after-pulse."""
    first_slot, dead_slots, after = figures[1], figures[3], figures[4]
    slot, index, live, found = state[0], state[1], state[3], state[6]
    words, marks, afters, slots, kept = words[index:], marks[index:], afters[index:], slots[found:], kept[found:]
    caused, taken, new = False, 0, 0
    for i in range(len(words)):
        at = slot + (words[i] >> 8)
        if at <= slot or at >= bound or new >= len(slots):
            break
        slot, mark, taken = at, marks[i], i + 1
        if mark != NO_CLICK and at >= live:
            slots[new], kept[new] = first_slot + at, mark
            new, live = new + 1, at + 1 + dead_slots
            caused = afters[i] < after
            if caused:
                break
    state[0], state[1], state[3], state[6] = slot, index + taken, live, found + new
    return caused


@jit
def _after(delay: int, mark: int, after_slots: float, state: Numbers, pending: Numbers) -> None:
    """Queue an after-pulse of the last click, whose delay from the end of dead time is exponential."""
    if state[4] < MAX_PENDING:
        slots = -after_slots * math.log((delay + 2147483648.5) / 4294967296.0)
        _put_pending(state[3] + int(slots), mark & 1, state[4], pending)
        state[4] += 1


@jit
def detect(
    words: Numbers,
    marks: Numbers,
    random: Numbers,
    spare: Numbers,
    darks: Numbers,
    pending: Numbers,
    figures: Numbers,
    after_slots: float,
    state: Numbers,
    slots: Numbers,
    kept: Numbers,
) -> bool:
    """Find the clicks that count, in order of time: light as `measure` marked it, dark counts, after-pulses; dead time.

    Goes on until `words` or the room in `slots` or `spare` are at their end; False: these words are no light, or do not
    fit the block. `random[2:]` decide on after-pulses of light and their delays; `spare` has the four rows for clicks
    without light. `darks` and `pending` have two rows, slots and detectors; `darks` ends with a slot behind the block.
    `figures`: number of slots, first slot, chance of Z (2⁻³¹), dead slots, threshold of after-pulses, whether the
    detectors are blinded, whether these are the last words. `state`: see `detectors`. `kept` are marks of clicks.
    """
    num_slots = figures[0]
    state[1] = state[5] = 0
    while state[6] < len(slots) and state[5] < len(spare[0]):
        other = min(_next_other(state, darks, pending), num_slots)
        if _run_of_light(words, marks, random[2], other, figures, state, slots, kept):
            _after(random[3][state[1] - 1], kept[state[6] - 1], after_slots, state, pending)
            continue
        if state[6] == len(slots):
            break
        mark, at = NO_CLICK, num_slots
        if state[1] < len(words):
            at = state[0] + (words[state[1]] >> 8)
            if at <= state[0] or at >= num_slots:
                return False
            if at == other:
                mark, state[0], state[1] = marks[state[1]], at, state[1] + 1
        elif other >= num_slots or not figures[6]:
            break
        clicks, used = _other_clicks(other, state, darks, pending), state[5]
        secret, chance = spare[0][used], spare[2][used]
        basis = 1 if secret & _LOW_31 >= figures[2] else 0
        if mark != NO_CLICK:
            clicks, basis = clicks | (3 if mark & 2 else 1 << (mark & 1)), mark >> 2
        state[5] += 1
        if other >= state[3]:
            slots[state[6]], kept[state[6]] = figures[1] + other, _marked(clicks, basis, secret)
            state[3], state[6] = other + 1 + figures[3], state[6] + 1
            if chance < figures[4]:
                _after(spare[3][used], kept[state[6] - 1], after_slots, state, pending)
    return True


@jit
def look_up(
    offsets: Numbers, choices: Numbers, asked: Numbers, first: int, bases: Numbers, bits: Numbers, intensities: Numbers
) -> int:
    """Write down what Alice chose for each slot of `asked`, which increase from `first` on.

    The intensity is `NO_LIGHT` where no light left. Returns how many those are; −1 where slots do not increase.
    """
    place, missing, last = 0, 0, -1
    for i in range(len(asked)):
        slot = asked[i] - first
        if slot <= last:
            return -1
        last = slot
        while place < len(offsets) and offsets[place] < slot:
            place += 1
        if place < len(offsets) and offsets[place] == slot:
            choice = choices[place]
            bases[i], bits[i], intensities[i] = choice >> 1 & 1, choice & 1, choice >> 2
        else:
            intensities[i] = NO_LIGHT
            missing += 1
    return missing
