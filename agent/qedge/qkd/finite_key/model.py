"""Nouns of the finite-key bounds: protocol, counts of one block, the epsilons, and the key length with its terms."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Final

DEFAULT_EPSILON: Final = 1e-10
"""Total epsilon of one block where nothing else is configured."""

_SUM_TOLERANCE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class DecoyProtocol:
    """Decoy-state BB84 with two or three intensities and biased bases; Z is the key basis, X the test basis.

    `mean_photon_numbers` μ_k, largest first: two (one decoy) or three (two decoys, μ1 > μ2 + μ3).
    `intensity_probabilities` p_k, none of them 0, sum to 1. The intensity of a pulse does not depend on its basis.
    Raises `ValueError` where the numbers are no protocol that the proofs cover.
    """

    mean_photon_numbers: tuple[float, ...]
    intensity_probabilities: tuple[float, ...]
    z_probability_alice: float
    z_probability_bob: float
    weights: tuple[float, ...] = field(init=False, repr=False, compare=False)
    """e^μ_k / p_k: what a count is multiplied with to compare it with counts of other intensities."""
    vacuum_share: float = field(init=False, repr=False, compare=False)
    """τ_0 = Σ p_k e^(−μ_k): the share of pulses without a photon."""
    single_share: float = field(init=False, repr=False, compare=False)
    """τ_1 = Σ p_k e^(−μ_k) μ_k: the share of pulses with one photon."""

    def __post_init__(self) -> None:
        means, chances = self.mean_photon_numbers, self.intensity_probabilities
        if not all(map(math.isfinite, (*means, *chances))):
            raise ValueError("a mean photon number or a probability is not finite")
        if len(means) not in (2, 3) or len(chances) != len(means):
            raise ValueError("two or three intensities, and a probability for each, are what the proofs cover")
        if min(chances) <= 0 or abs(math.fsum(chances) - 1) > _SUM_TOLERANCE:
            raise ValueError("the probabilities of the intensities are above 0 and sum to 1")
        if means[-1] < 0 or not all(more > less for more, less in pairwise(means)):
            raise ValueError("mean photon numbers fall from one intensity to the next and are not negative")
        if len(means) == 3 and means[0] <= means[1] + means[2]:
            raise ValueError("the largest mean photon number is above the sum of the two decoys")
        if len(means) == 2 and means[1] <= 0:
            raise ValueError("the one decoy is no vacuum: its mean photon number is above 0")
        if not (0 < self.z_probability_alice < 1 and 0 < self.z_probability_bob < 1):
            raise ValueError("both bases are chosen with some probability at both ends")

        # A search evaluates thousands of protocols, each of them in several formulas.
        vacuum = [chance * math.exp(-mean) for mean, chance in zip(means, chances, strict=True)]
        object.__setattr__(self, "weights", tuple(1 / share for share in vacuum))
        object.__setattr__(self, "vacuum_share", sum(vacuum))
        object.__setattr__(self, "single_share", sum(map(operator.mul, vacuum, means)))

    @property
    def decoys(self) -> int:
        """How many intensities are decoys: 1 or 2."""
        return len(self.mean_photon_numbers) - 1


@dataclass(frozen=True, slots=True)
class BasisCounts:
    """Detections and errors of one basis, one number for each intensity, in the order of the protocol's intensities.

    Detections are those in which both ends chose the basis. Counts of a real block are integers; what a plan expects of
    a block may be fractions.
    """

    detections: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def total(self) -> float:
        """Detections of all intensities."""
        return sum(self.detections)

    @property
    def wrong(self) -> float:
        """Errors of all intensities."""
        return sum(self.errors)

    @property
    def error_rate(self) -> float:
        """Errors per detection; 0 without a detection."""
        return self.wrong / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of ONE block: all of its sifted detections, those of frames that were given up among them."""

    key: BasisCounts
    test: BasisCounts


@dataclass(frozen=True, slots=True)
class EpsilonBudget:
    """What may go wrong with one block, as probabilities (composable: they add up, also over blocks).

    `secrecy`: distance of the key from one that nobody else knows anything of, with the failure of every estimate.
    `correctness`: the ends hold different keys. `authentication`: a message of the block was not the peer's, all
    messages of the block in both directions together.
    """

    secrecy: float = 0.98 * DEFAULT_EPSILON
    correctness: float = 0.01 * DEFAULT_EPSILON
    authentication: float = 0.01 * DEFAULT_EPSILON

    def __post_init__(self) -> None:
        if not all(0 < each < 1 for each in (self.secrecy, self.correctness, self.authentication)):
            raise ValueError("each epsilon is above 0 and below 1")

    @classmethod
    def of_total(cls, total: float) -> EpsilonBudget:
        """Split a total: secrecy costs most bits for each factor of ten, so that it gets nearly all."""
        return cls(0.98 * total, 0.01 * total, 0.01 * total)

    @property
    def total(self) -> float:
        """Epsilon of one block."""
        return math.fsum((self.secrecy, self.correctness, self.authentication))

    def after_blocks(self, blocks: int) -> float:
        """Epsilon of everything made of so many blocks, at most 1."""
        return min(1.0, blocks * self.total)


class Estimate(StrEnum):
    """How errors of the test basis become a bound for the key basis; the decoy bounds are the same in both.

    `STRICT`: errors of single photons are no more than all errors of the test basis, and the sampling bound has no
    expansion in it. `PUBLISHED`: as the papers print it, for comparison with their figures.
    """

    STRICT = "strict"
    PUBLISHED = "published"


class WhyZero(StrEnum):
    """Why a block gives no key."""

    NONE = ""
    NO_DETECTIONS = "the block has no detections in the key basis"
    NO_SINGLES = "the counts do not show that single photons were detected"
    PHASE_ERROR = "the test basis does not show that an eavesdropper knows less than everything"
    LEAK = "reconciliation disclosed as much as there was to keep"
    TOO_SHORT = "the block is too short for its epsilons"


@dataclass(frozen=True, slots=True)
class KeyLength:
    """Length of the key of one block, and every term of it.

    `bits` is what is distilled: a whole number, never below 0. `exact` is the formula's value before it is rounded
    down, negative where there is no key; `rounding` is an upper bound of the error that floating point put into it.
    """

    bits: int
    why_zero: WhyZero
    sifted: float
    """Detections of the key basis, n."""
    vacuum: float
    """Lower bound of those from pulses without a photon, s_0."""
    single: float
    """Lower bound of those from pulses with one photon, s_1."""
    test_single: float
    """Lower bound of detections of one photon in the test basis."""
    test_single_errors: float
    """Upper bound of the errors among them, v_1."""
    sampling: float
    """What is added to their rate because the key basis is another sample, γ."""
    phase_error: float
    """Upper bound of the phase error rate of the single photons of the key basis, at most ½."""
    leaked_bits: int
    """Bits of reconciliation and verification that went over the public channel."""
    dropped_bits: int
    """Bits of frames that were given up, which count as disclosed."""
    secrecy_bits: float
    """Price of the estimates and of privacy amplification, 6 log2(parts / ε_sec)."""
    correctness_bits: float
    """Price of verification, log2(2 / ε_cor)."""
    exact: float
    rounding: float

    def allows(self, bits: int) -> bool:
        """Say whether a length that the other end computed from the same counts may be used here.

        Both ends compute with the same integers, but their libraries may differ in the last digit of a logarithm.
        """
        return 0 <= bits <= max(0, math.floor(self.exact - self.rounding))
