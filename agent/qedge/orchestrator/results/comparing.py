"""Two results of one job: the same, alike as far as chance allows, or different. Pure.

All tests of one comparison together give a false alarm once in 10⁹ (Bonferroni), and those of counts are exact
(Fisher): a node is accused by this, and a fleet makes millions of comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from heapq import nlargest
from typing import Final

from qedge.wire.jobs import JobResult
from qedge.wire.tasks import AmplitudeResult, ExpectationResult, KernelResult, QaoaResult, QecResult, SampleResult

FALSE_ALARMS: Final = 1e-9
_OUTCOMES: Final = 64
"""Outcomes that are compared one by one: those seen most often."""
_EXACT: Final = 1e-3
"""How far two single-precision simulators may be apart, relative to the largest value."""
_UNSEEN: Final = 2 * math.log(2 / FALSE_ALARMS)
"""Over the shots: how much of an outcome may hide where no shot showed it."""


class Likeness(StrEnum):
    """What a comparison says. `UNKNOWN`: the two cannot be compared."""

    SAME = "same"
    ALIKE = "alike"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


def compare(one: JobResult, other: JobResult) -> Likeness:
    """Compare two results of one job that ran without noise; their shots and seeds may differ."""
    if one.registers != other.registers or type(one.data) is not type(other.data):
        return Likeness.DIFFERENT
    if (one.counts, one.data) == (other.counts, other.data):
        return Likeness.SAME
    chances = list(_tests(one, other))
    if not chances:
        return Likeness.UNKNOWN
    return Likeness.DIFFERENT if min(chances) * len(chances) < FALSE_ALARMS else Likeness.ALIKE


def _tests(one: JobResult, other: JobResult) -> Iterator[float]:
    """Yield for each test the chance that honest results are at least so far apart."""
    first, second = one.data, other.data
    if isinstance(first, ExpectationResult) and isinstance(second, ExpectationResult):
        yield from _values(first, second, min(one.shots, other.shots))
    elif isinstance(first, KernelResult) and isinstance(second, KernelResult):
        yield _tables(first.values, second.values)
    elif isinstance(first, AmplitudeResult) and isinstance(second, AmplitudeResult):
        yield float(_overlap(first, second) > 1 - _EXACT)
    elif isinstance(first, QaoaResult) and isinstance(second, QaoaResult):
        if first.optimum_exact and second.optimum_exact:
            yield float(math.isclose(first.optimum, second.optimum, rel_tol=1e-6, abs_tol=1e-6))
    elif isinstance(first, QecResult) and isinstance(second, QecResult):
        yield _shares(first.logical_errors, first.shots, second.logical_errors, second.shots)
    elif isinstance(first, SampleResult) and isinstance(second, SampleResult) and first.points:
        if len(first.points) != len(second.points):
            yield 0.0
        for point, again in zip(first.points, second.points, strict=False):
            yield from _counts(point, again)
    else:
        yield from _counts(one.counts, other.counts)


def _counts(one: Mapping[str, int], other: Mapping[str, int]) -> Iterator[float]:
    """Compare the commonest outcomes, and every bit: with many bits hardly an outcome comes twice, but bits do."""
    shots, again = sum(one.values()), sum(other.values())
    if not shots or not again:
        return
    for bits in {*nlargest(_OUTCOMES, one, key=one.__getitem__), *nlargest(_OUTCOMES, other, key=other.__getitem__)}:
        yield _shares(one.get(bits, 0), shots, other.get(bits, 0), again)
    width = len(next(iter(one)))
    for ones, others in zip(_set_bits(one, width), _set_bits(other, width), strict=True):
        yield _shares(ones, shots, others, again)


def _set_bits(counts: Mapping[str, int], width: int) -> list[int]:
    """Return how often each bit is 1, and how often neighbours differ."""
    ones, unequal = [0] * width, [0] * max(0, width - 1)
    for bits, times in counts.items():
        for at, bit in enumerate(bits):
            if bit == "1":
                ones[at] += times
            if at and bit != bits[at - 1]:
                unequal[at - 1] += times
    return ones + unequal


def _shares(hits: int, shots: int, hits_again: int, again: int) -> float:
    """Return the chance that two samples of one distribution have so unequal shares (Fisher's exact test, two sides).

    The tail of the hypergeometric distribution falls faster than a geometric series, whose sum is taken: never less.
    """
    if hits * again < hits_again * shots:
        hits, shots, hits_again, again = hits_again, again, hits, shots
    total = hits + hits_again
    chance = math.exp(_choose(shots, hits) + _choose(again, hits_again) - _choose(shots + again, total))
    ratio = (shots - hits) * hits_again / ((hits + 1) * (again - hits_again + 1))
    return min(1.0, 2 * chance / (1 - ratio)) if ratio < 1 else 1.0


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _values(one: ExpectationResult, other: ExpectationResult, shots: int) -> Iterator[float]:
    if not (one.errors or other.errors):
        yield _tables(one.values, other.values)
        return
    errors, errors_again = (each.errors or tuple((0.0,) * len(row) for row in each.values) for each in (one, other))
    for row, again, error, error_again in zip(one.values, other.values, errors, errors_again, strict=True):
        for a, b, ea, eb in zip(row, again, error, error_again, strict=True):
            slack = _UNSEEN / shots * max(1.0, abs(a), abs(b))
            spread = math.hypot(ea, eb) + 1e-12
            yield math.erfc(max(0.0, abs(a - b) - slack) / spread / math.sqrt(2))


def _tables(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """Return 1 where two tables of exact values agree, else 0."""
    flat, again = [value for row in one for value in row], [value for row in other for value in row]
    if len(flat) != len(again):
        return 0.0
    scale = max(1.0, *(abs(value) for value in flat), *(abs(value) for value in again))
    apart = max((abs(a - b) for a, b in zip(flat, again, strict=True)), default=0.0)
    return float(apart <= _EXACT * scale)


def _overlap(one: AmplitudeResult, other: AmplitudeResult) -> float:
    """Return |⟨one|other⟩|² over their norms, which a global phase leaves as it is; 1 where both are nothing."""
    if len(one.real) != len(other.real):
        return 0.0
    a = [complex(*pair) for pair in zip(one.real, one.imag, strict=True)]
    b = [complex(*pair) for pair in zip(other.real, other.imag, strict=True)]
    norms = [math.fsum(abs(value) ** 2 for value in values) for values in (a, b)]
    if max(norms) < _EXACT**2:
        return 1.0
    if min(norms) < (1 - _EXACT) * max(norms):
        return 0.0
    return abs(sum(x.conjugate() * y for x, y in zip(a, b, strict=True))) ** 2 / (norms[0] * norms[1])
