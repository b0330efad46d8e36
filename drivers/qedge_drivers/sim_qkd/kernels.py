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
from qedge_drivers.sim_qkd.emission import BRIGHT

Numbers = Any  # a numpy array when compiled, a memory view when interpreted: numba infers the type itself

MAX_PENDING: Final = 4096
"""After-pulses that may be under way at once; any beyond are lost, which takes a rate that no detector survives."""
NO_CLICK: Final = 255
_RARE: Final = 8  # in a mark: not measured yet
_LOOKED_AT: Final = 16
_LOW_31: Final = 0x7FFF_FFFF
_LOW_16: Final = 0xFFFF
_LOW_15: Final = 0x7FFF


@jit
def _seen(photons: int, chance: float, drawn: float) -> int:
    """Measure several photons, each of which goes to detector 1 with a chance: 1 and 2 a detector clicks, 3 both do."""
    only_one, only_other = chance, 1.0 - chance
    for _ in range(photons - 1):  # a power takes ten times as long as the two or three photons that there mostly are
        only_one, only_other = only_one * chance, only_other * (1.0 - chance)
    return 2 if drawn < only_one else 1 if drawn < only_one + only_other else 3


@jit
def _marked(clicks: int, basis: int, bit: int) -> int:
    """Write clicks down as basis·4 + double·2 + bit; a double click gets a random `bit`."""
    return basis << 2 | (2 | bit if clicks == 3 else clicks >> 1)


@jit
def measure(
    words: Numbers, random: Numbers, fine: Numbers, figures: Numbers, thresholds: Numbers, marks: Numbers
) -> None:
    """Measure each word of light by itself, by Born's rule in Bob's basis, for `detect` to see which clicks count.

    `random[0]` are Bob's secret choices: 15 bits of 31 for his basis, of which `fine` gives the rest where they do not
    decide, and one for a double click; `random[1]` decides outcomes. `thresholds` for a one: in another basis, and for
    the states of 0 and 1 in the same; and the 15 bits that do not decide. Blinded detectors click for bright pulses in
    their own basis alone; `NO_CLICK` says that none did.
    """
    secrets, outcomes = random[0], random[1]
    upper, lower, blinded = figures[2] >> 16, figures[2] & _LOW_16, figures[5]
    half, zero, one = thresholds[0], thresholds[1], thresholds[2]
    for i in range(len(words)):  # as if each were a single photon: no branch, so that whole vectors are done at once
        word, secret = words[i], secrets[i] & _LOW_15
        basis = 1 if secret >= upper else 0
        straight = one if word & 1 else zero
        threshold = straight if basis == word >> 1 & 1 else half
        rare = 0 if word >> 2 & 63 == 1 and secret != upper else _RARE
        marks[i] = rare | basis << 2 | (1 if outcomes[i] < threshold else 0)
    extra, begin = 0, 0
    while begin < len(words):
        end = min(begin + _LOOKED_AT, len(words))
        if blinded or _any_rare(marks[begin:end]):
            extra = _measure_rare(words, random, fine, lower, blinded, thresholds, marks, begin, end, extra)
        begin = end


@jit
def _any_rare(marks: Numbers) -> int:
    found = 0
    for i in range(len(marks)):
        found |= marks[i]
    return found & _RARE


@jit
def _measure_rare(
    words: Numbers,
    random: Numbers,
    fine: Numbers,
    lower: int,
    blinded: int,
    thresholds: Numbers,
    marks: Numbers,
    begin: int,
    end: int,
    extra: int,
) -> int:
    """Measure what is no single photon, or was seen in a basis that 15 bits do not decide; return where `fine` is."""
    secrets, outcomes = random[0], random[1]
    for i in range(begin, end):
        if not marks[i] & _RARE and not blinded:
            continue
        photons, basis, bit = words[i] >> 2 & 63, 1 if marks[i] & 4 else 0, words[i] & 1
        if secrets[i] & _LOW_15 == thresholds[3]:
            basis = 1 if fine[extra] & _LOW_16 >= lower else 0
            extra = min(extra + 1, len(fine) - 1)
        same = basis == words[i] >> 1 & 1
        if photons == 0 or blinded:
            marks[i] = basis << 2 | bit if same and photons == BRIGHT else NO_CLICK
            continue
        threshold = (thresholds[2] if bit else thresholds[1]) if same else thresholds[0]
        drawn, chance = (outcomes[i] + 2147483648.5) / 4294967296.0, (threshold + 2147483648.0) / 4294967296.0
        clicks = _seen(photons, chance, drawn)
        marks[i] = _marked(clicks, basis, secrets[i] >> 15 & 1)
    return extra


@jit
def part(marks: Numbers, bases: Numbers, bits: Numbers) -> int:
    """Write down bases and bits of marks; return how many are of double clicks."""
    doubles = 0
    for i in range(len(marks)):
        mark = marks[i]
        bases[i], bits[i] = mark >> 2, mark & 1
        doubles += mark >> 1 & 1
    return doubles


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
def _plain_run_of_light(
    words: Numbers, marks: Numbers, bound: int, first_slot: int, state: Numbers, slots: Numbers, kept: Numbers
) -> bool:
    """Do as `_run_of_light` where clicks have no consequences."""
    slot, new, taken = state[0], 0, len(words)
    for i in range(len(words)):
        at = slot + (words[i] >> 8)
        if at <= slot or at >= bound or new >= len(slots):
            taken = i
            break
        slot = at
        slots[new], kept[new] = first_slot + at, marks[i]
        new += 1 if marks[i] != NO_CLICK else 0
    state[0], state[1], state[6] = slot, state[1] + taken, state[6] + new
    state[3] = max(state[3], slot + 1) if new > 0 else state[3]
    return False


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
    if dead_slots == 0 and after == -(1 << 31) and live <= slot + 1:
        return _plain_run_of_light(words, marks, bound, first_slot, state, slots, kept)
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
            slots[state[6]], kept[state[6]] = figures[1] + other, _marked(clicks, basis, secret >> 31 & 1)
            state[3], state[6] = other + 1 + figures[3], state[6] + 1
            if chance < figures[4]:
                _after(spare[3][used], kept[state[6] - 1], after_slots, state, pending)
    return True
