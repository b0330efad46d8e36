"""The key length of one block: two decoys by Lim et al. 2014, one decoy by Rusca et al. 2018.

ℓ = ⌊s_0 + s_1 [1 − h(φ)] − leaked − 6 log2(parts/ε_sec) − log2(2/ε_cor)⌋, parts = 21 with two decoys and 19 with
one: the number of equal parts in which the proof spends ε_sec. All bounds of a block hold together but with
probability ε_sec.

Frames that were given up stay in the counts, and their bits count as disclosed. To leave them out of the counts
would judge a selection that errors made by a proof for random samples; as disclosed bits they need no further
argument.

Numbers are rounded down with a margin: each operation errs by at most some 2^−52 of its largest operand, conditions
of the formulas are below 2^10, and the margin is 2^−36 of the largest operand. Both ends compute the same integers'
length; where the last digit of a library's logarithm differs, the end that did not choose the length checks it with
`KeyLength.allows`.
"""

from __future__ import annotations

import math
from typing import Final

from qedge.qkd.finite_key.decoy import DecoyBounds, one_decoy, two_decoys
from qedge.qkd.finite_key.entropy import binary_entropy
from qedge.qkd.finite_key.model import BasisCounts, Counts, DecoyProtocol, EpsilonBudget, Estimate, KeyLength, WhyZero
from qedge.qkd.finite_key.sampling import published_term, strict_term

TWO_DECOY_PARTS: Final = 21
ONE_DECOY_PARTS: Final = 19

_ROUNDING: Final = 2.0**-36


def key_length(
    protocol: DecoyProtocol,
    counts: Counts,
    leaked_bits: int,
    budget: EpsilonBudget,
    *,
    dropped_bits: int = 0,
    estimate: Estimate = Estimate.STRICT,
) -> KeyLength:
    """Compute how many bits privacy amplification may keep of a block.

    `counts` are integers and cover the whole block. `leaked_bits` is what was really disclosed of the frames that
    are kept: every syndrome, extra rows among them, verification tags, and ⌈log2(n+1)⌉ for each number that Bob's
    corrections made known (one decoy needs the errors of the key basis by intensity). `dropped_bits` are bits of
    frames that were given up: they stay in the counts, are put to 0 or left out in the hash, and are paid in full,
    which pays for their syndromes too. Their errors, if they are not disclosed, count as one for each bit. Raises
    `ValueError` where counts and protocol do not fit together.
    """
    for basis in (counts.key, counts.test):
        _check(protocol, basis)
    if leaked_bits < 0 or not 0 <= dropped_bits <= counts.key.total:
        raise ValueError("leaked bits are not negative, and no more are dropped than were sifted")
    return expected_key_length(protocol, counts, leaked_bits, budget, dropped_bits=dropped_bits, estimate=estimate)


def expected_key_length(
    protocol: DecoyProtocol,
    counts: Counts,
    leaked_bits: float,
    budget: EpsilonBudget,
    *,
    dropped_bits: int = 0,
    estimate: Estimate = Estimate.STRICT,
) -> KeyLength:
    """Compute the same of expected counts, which need not be integers: for plans, never for a block."""
    parts = TWO_DECOY_PARTS if protocol.decoys == 2 else ONE_DECOY_PARTS
    failure = budget.secrecy / parts
    bounds = (two_decoys if protocol.decoys == 2 else one_decoy)(protocol, counts, -math.log(failure), estimate)
    sampling, phase_error = _phase_error(bounds, failure, estimate)
    secrecy_bits = -6 * math.log2(failure)
    correctness_bits = 1 - math.log2(budget.correctness)
    hidden = bounds.vacuum + bounds.single * (1 - binary_entropy(phase_error))
    exact = hidden - leaked_bits - dropped_bits - secrecy_bits - correctness_bits
    rounding = _ROUNDING * (_magnitude(protocol, counts) + leaked_bits + 1)
    bits = max(0, math.floor(exact - 3 * rounding))
    return KeyLength(
        bits,
        WhyZero.NONE if bits else _why_zero(counts, bounds, phase_error, hidden - leaked_bits - dropped_bits),
        counts.key.total,
        bounds.vacuum,
        bounds.single,
        bounds.test_single,
        bounds.test_single_errors,
        sampling,
        phase_error,
        math.ceil(leaked_bits),
        dropped_bits,
        secrecy_bits,
        correctness_bits,
        exact,
        rounding,
    )


def _phase_error(bounds: DecoyBounds, failure: float, estimate: Estimate) -> tuple[float, float]:
    """Return γ and φ; without single photons in a basis nothing is known: ½."""
    if bounds.test_single <= 0 or bounds.single <= 0 or bounds.test_single_errors >= bounds.test_single / 2:
        return 0.0, 0.5
    rate = bounds.test_single_errors / bounds.test_single
    if estimate is Estimate.STRICT:
        # Phase errors of the key cannot be counted beside its bits: what may go wrong with them is a smoothing of the
        # state, and smoothing by α covers a probability of α².
        sampling = strict_term(failure**2, rate, bounds.test_single, bounds.single)
    else:
        sampling = published_term(failure, rate, bounds.test_single, bounds.single)
    return sampling, min(0.5, rate + sampling)


def _why_zero(counts: Counts, bounds: DecoyBounds, phase_error: float, left: float) -> WhyZero:
    if counts.key.total <= 0:
        return WhyZero.NO_DETECTIONS
    if bounds.single <= 0:
        return WhyZero.NO_SINGLES
    if phase_error >= 0.5:
        return WhyZero.PHASE_ERROR
    return WhyZero.LEAK if left <= 0 else WhyZero.TOO_SHORT


def _magnitude(protocol: DecoyProtocol, counts: Counts) -> float:
    """Return an upper bound, up to a small factor, of the operands that the bounds are made of."""
    weights = protocol.weights
    return sum(
        weight * number
        for basis in (counts.key, counts.test)
        for numbers in (basis.detections, basis.errors)
        for weight, number in zip(weights, numbers, strict=True)
    )


def _check(protocol: DecoyProtocol, basis: BasisCounts) -> None:
    if not len(basis.detections) == len(basis.errors) == len(protocol.mean_photon_numbers):
        raise ValueError("counts have one number for each intensity")
    for detections, errors in zip(basis.detections, basis.errors, strict=True):
        whole = isinstance(detections, int) and isinstance(errors, int)
        if not whole:
            raise ValueError("counts of a block are whole numbers")
        if not 0 <= errors <= detections:
            raise ValueError("errors are not negative, and no more than the detections")
