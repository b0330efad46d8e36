"""From the error rate of a tested sample to that of the bits that were not tested.

Single photons of the test basis are a random sample, without replacement, of the single photons of both bases. The
published term γ (Fung, Ma, Chau 2010; used by Lim et al. 2014 and Rusca et al. 2018) comes from the exact probability
by an expansion to second order, which errs in the insecure direction: most where errors are rare, and without a single
error γ is 0 however small the sample. The strict term is a bound without an expansion.
"""

from __future__ import annotations

import math
from typing import Final

from qedge.qkd.finite_key.entropy import divergence

_STEPS: Final = 100
_PRECISE: Final = 1e-10


def published_term(failure: float, rate: float, tested: float, kept: float) -> float:
    """Return γ(a, b, c, d) with `failure` = a/21 (a/19 with one decoy), b `rate`, c `tested`, d `kept`.

    Defined for 0 ≤ b ≤ 1, c > 0, d > 0; 0 for b = 0 and for b = 1, its limits there.
    """
    spread = (1 - rate) * rate
    if spread <= 0:
        return 0.0
    share = (tested + kept) / (tested * kept)
    bits = math.log2(share / spread) - 2 * math.log2(failure)
    return math.sqrt(max(0.0, share * spread * bits / math.log(2)))


def strict_term(failure: float, rate: float, tested: float, kept: float) -> float:
    """Return γ such that `kept` bits have a higher rate of errors than `rate` + γ with at most probability `failure`.

    `rate` is that of `tested` bits, both drawn at random from the same bits. Hoeffding 1963, theorems 1 and 4:
    where all bits together have errors at rate λ, the tested ones have rate b < λ or less with at most exp(−c
    D(b‖λ)), the kept ones θ > λ or more with at most exp(−d D(θ‖λ)). For a given λ, b and θ fix each other, so that
    these are bounds of one event and the better one counts; θ is the smallest that either makes improbable, found
    by false position from above.
    """
    nats = -math.log(failure)

    def excess(other: float) -> float:
        together = (tested * rate + kept * other) / (tested + kept)
        return max(tested * divergence(rate, together), kept * divergence(other, together)) - nats

    # D(x‖y) ≥ 2 (x − y)² gives a place above; from there on false position, which keeps the improbable side.
    both = tested + kept
    high = min(1.0, rate + min(math.sqrt(nats / 2 / tested) * both / kept, math.sqrt(nats / 2 / kept) * both / tested))
    low, below, above = rate, -nats, excess(high)
    while above < 0:  # by the last digit, or because the place is beyond 1
        if high >= 1:
            return 1 - rate
        high = min(1.0, rate + 2 * (high - rate))
        above = excess(high)
    kept_high = False
    for _ in range(_STEPS):
        if high - low <= _PRECISE * high:
            break
        middle = high - (high - low) * above / (above - below)
        middle = min(max(middle, low + _PRECISE * high / 2), high - _PRECISE * high / 2)
        value = excess(middle)
        if value >= 0:
            high, above = middle, value
            below = below / 2 if kept_high else below
            kept_high = True
        else:
            low, below = middle, value
            above = above if kept_high else above / 2
            kept_high = False
    return high - rate
