"""Inner loop of the ledger, in the part of Python that numba compiles; see `compiled`."""

from __future__ import annotations

from typing import Any, Final

from qedge_drivers.sim_qkd.compiled import jit

Numbers = Any  # as in `kernels`

RUN: Final = 128
"""Slots looked up together."""
NO_LIGHT: Final = 255


@jit
def _differ(offsets: Numbers, place: int, asked: Numbers, begin: int, first: int) -> int:
    """Return 0 where the next `RUN` slots asked for are just those of the next pulses."""
    pulses, slots, found = offsets[place : place + RUN], asked[begin : begin + RUN], 0
    for i in range(RUN):
        found |= (slots[i] - first) ^ pulses[i]
    return found


@jit
def _tell(choices: Numbers, bases: Numbers, bits: Numbers, intensities: Numbers) -> None:
    for i in range(len(bases)):
        bases[i], bits[i], intensities[i] = choices[i] >> 1 & 1, choices[i] & 1, choices[i] >> 2


@jit
def look_up(
    offsets: Numbers, choices: Numbers, asked: Numbers, first: int, bases: Numbers, bits: Numbers, intensities: Numbers
) -> int:
    """Write down what Alice chose for each slot of `asked`, which increase from `first` on.

    The intensity is `NO_LIGHT` where no light left. Returns how many those are; −1 where slots do not increase.
    Where Bob saw all pulses for a while, many are compared at once.
    """
    place, missing, last, i, look = 0, 0, -1, 0, 0
    while i < len(asked):
        if i >= look and i + RUN <= len(asked) and place + RUN <= len(offsets):
            if asked[i] - first > last and _differ(offsets, place, asked, i, first) == 0:
                end = i + RUN
                _tell(choices[place : place + RUN], bases[i:end], bits[i:end], intensities[i:end])
                i, place, last = end, place + RUN, 0 + offsets[place + RUN - 1]
                continue
            look = i + RUN
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
        i += 1
    return missing
