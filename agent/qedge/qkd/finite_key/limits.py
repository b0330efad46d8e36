"""When a block is not to be used: error rates out of bounds, counts that the configured link or no link at all gives.

The key length by itself is safe whatever the counts are: an eavesdropper who is seen in them leaves less key, or
none. These rules say what happened, stop a link that is under attack or out of order, and catch what no bound can:
counts that contradict the protocol's own numbers, so that its intensities or probabilities are not what they are
said to be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from qedge.qkd.finite_key.model import Counts, DecoyProtocol


class AbortCode(StrEnum):
    """Why a block is put aside, for metrics and for the other end."""

    NO_DETECTIONS = "no-detections"
    KEY_ERRORS = "key-errors"
    TEST_ERRORS = "test-errors"
    IMPOSSIBLE_YIELDS = "impossible-yields"
    PHOTON_NUMBER = "photon-number"
    GAIN = "gain"
    DOUBLE_CLICKS = "double-clicks"


@dataclass(frozen=True, slots=True)
class AbortReason:
    """A code, and a sentence with the numbers for people."""

    code: AbortCode
    sentence: str


@dataclass(frozen=True, slots=True)
class StatisticsLimits:
    """What counts of a block are taken for good.

    Counts may be off by `deviations` standard deviations and, where they are compared with what should be, by a
    share of `tolerance` more (intensities and losses are not known better). `expected_gains`: detections per pulse
    of each intensity, both ends' bases equal or not; empty where nothing is expected. All may be off together by a
    share of `gain_tolerance`, since losses drift, and one from another by `shape_tolerance`, since intensities hardly
    do. `double_share`: double clicks over what two clicks in one slot would be by chance, which no loss changes, as
    expected within `double_tolerance`; below 0 where nothing is.
    """

    max_key_error_rate: float = 0.11
    max_test_error_rate: float = 0.11
    deviations: float = 8.0
    tolerance: float = 0.1
    expected_gains: tuple[float, ...] = ()
    gain_tolerance: float = 0.1
    shape_tolerance: float = 0.04
    double_share: float = -1.0
    double_tolerance: float = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    """What the receiver saw of a block: `slots` in which it could detect, each a pulse of Alice's; all `clicks`, in
    equal bases or not; how many of them were `double_clicks`. Without slots (0) nothing is compared with them. A block
    that ends within an announcement has its share of it, so that numbers may be fractions."""

    slots: float = 0.0
    clicks: float = 0.0
    double_clicks: float = 0.0

    def __add__(self, other: Seen) -> Seen:
        return Seen(self.slots + other.slots, self.clicks + other.clicks, self.double_clicks + other.double_clicks)

    def part(self, clicks: int) -> Seen:
        """Return the share of so many of the clicks."""
        share = clicks / self.clicks if self.clicks else 0.0
        return Seen(share * self.slots, float(clicks), share * self.double_clicks)

    @property
    def gain(self) -> float:
        """Return clicks per slot, −1 without a slot."""
        return self.clicks / self.slots if self.slots > 0 else -1.0


_BACKGROUND: Final = 0.1
"""Of pulses weaker than such a share of the signal the gain tells of dark counts rather than of light."""


def check_statistics(
    protocol: DecoyProtocol, counts: Counts, limits: StatisticsLimits, seen: Seen = Seen()
) -> AbortReason | None:
    """Return why the block is not to be used, None where nothing speaks against it."""
    return (
        _errors(counts, limits)
        or _impossible(protocol, counts, limits)
        or _split(protocol, counts, limits)
        or _gain(protocol, counts, limits, seen.slots)
        or _doubles(limits, seen)
    )


def _errors(counts: Counts, limits: StatisticsLimits) -> AbortReason | None:
    if counts.key.total <= 0 or counts.test.total <= 0:
        return AbortReason(AbortCode.NO_DETECTIONS, "A basis has no detections.")
    for basis, most, code, name in (
        (counts.key, limits.max_key_error_rate, AbortCode.KEY_ERRORS, "key"),
        (counts.test, limits.max_test_error_rate, AbortCode.TEST_ERRORS, "test"),
    ):
        if basis.error_rate > most:
            return AbortReason(code, f"Errors of the {name} basis are {basis.error_rate:.2%}, limit {most:.2%}.")
    return None


def _impossible(protocol: DecoyProtocol, counts: Counts, limits: StatisticsLimits) -> AbortReason | None:
    """Yields are probabilities: e^μ Q_μ is a power series in μ with no negative term, whatever an eavesdropper does.

    So none of its divided differences is negative, and the same holds for errors.
    """
    means = protocol.mean_photon_numbers
    for numbers, name in (
        (_both(counts.key.detections, counts.test.detections), "detections"),
        (_both(counts.key.errors, counts.test.errors), "errors"),
    ):
        values = [weight * number for weight, number in zip(protocol.weights, numbers, strict=True)]
        variances = [weight**2 * max(1.0, number) for weight, number in zip(protocol.weights, numbers, strict=True)]
        for order in range(1, len(means)):
            factors = _divided(means[-1 - order :])
            first = len(means) - 1 - order
            difference = sum(f * v for f, v in zip(factors, values[first:], strict=True))
            spread = math.sqrt(sum(f**2 * v for f, v in zip(factors, variances[first:], strict=True)))
            if difference < -limits.deviations * spread:
                return AbortReason(
                    AbortCode.IMPOSSIBLE_YIELDS,
                    f"No channel gives these {name} by intensity: the source is not what it is said to be.",
                )
    return None


def _divided(points: Sequence[float]) -> list[float]:
    """Return the factors of the values at `points` in their divided difference."""
    return [1 / math.prod(point - other for other in points if other != point) for point in points]


def _split(protocol: DecoyProtocol, counts: Counts, limits: StatisticsLimits) -> AbortReason | None:
    """Look for fewer detections of weak pulses than loss can explain: somebody lets pulses of several photons pass.

    Loss and dark counts make the gain a concave function of μ that is not negative at 0, so that Q_μ ≥ (μ/μ1) Q_μ1.
    Dead time and afterpulses keep that. An eavesdropper who prefers pulses of several photons makes it convex.
    """
    numbers = _both(counts.key.detections, counts.test.detections)
    gains = [number / chance for number, chance in zip(numbers, protocol.intensity_probabilities, strict=True)]
    for index, mean in enumerate(protocol.mean_photon_numbers[1:], 1):
        share = mean / protocol.mean_photon_numbers[0]
        chance = protocol.intensity_probabilities[index]
        spread = math.hypot(
            math.sqrt(max(1.0, numbers[index])) / chance,
            share * math.sqrt(numbers[0]) / protocol.intensity_probabilities[0],
        )
        least = share * gains[0] * (1 - limits.tolerance)
        if gains[index] < least - limits.deviations * spread:
            return AbortReason(
                AbortCode.PHOTON_NUMBER,
                f"Pulses of {mean:g} photons are detected {1 - gains[index] / (share * gains[0]):.0%} less often than "
                "loss explains: pulses of several photons may be preferred by somebody.",
            )
    return None


def _gain(protocol: DecoyProtocol, counts: Counts, limits: StatisticsLimits, slots: float) -> AbortReason | None:
    """Compare the gains with those expected, first all of them, then each with the signal's.

    Who blinds the detectors and has them click as she likes sees photons that the fibre would lose. She may let so few
    pulses pass that the signal's gain is right; those of weaker pulses then are not.
    """
    if not limits.expected_gains or slots <= 0:
        return None
    if len(limits.expected_gains) != len(protocol.mean_photon_numbers):
        raise ValueError("one gain is expected for each intensity")
    alice, bob = protocol.z_probability_alice, protocol.z_probability_bob
    sifted = alice * bob + (1 - alice) * (1 - bob)
    numbers = _both(counts.key.detections, counts.test.detections)
    expected = [
        slots * chance * gain * sifted
        for chance, gain in zip(protocol.intensity_probabilities, limits.expected_gains, strict=True)
    ]
    means = protocol.mean_photon_numbers
    bright = [index for index, mean in enumerate(means) if mean >= _BACKGROUND * means[0]]
    for index in bright:
        number, right = numbers[index], expected[index]
        if abs(number - right) > limits.gain_tolerance * right + limits.deviations * math.sqrt(max(1.0, right)):
            return _unexpected(number, right, means[index])
    for index in bright[1:]:
        right = expected[index] * numbers[0] / max(1.0, expected[0])
        spread = math.sqrt(max(1.0, right) + right**2 / max(1.0, numbers[0]))
        if abs(numbers[index] - right) > limits.shape_tolerance * right + limits.deviations * spread:
            return _unexpected(numbers[index], right, means[index])
    return None


def _unexpected(number: float, right: float, mean: float) -> AbortReason:
    sentence = f"{number:.0f} detections of pulses of {mean:g} photons where {right:.0f} are expected."
    return AbortReason(AbortCode.GAIN, sentence)


def _doubles(limits: StatisticsLimits, seen: Seen) -> AbortReason | None:
    """Look for too few double clicks, since detectors that somebody steers click one at a time, and for too many."""
    if limits.double_share < 0 or seen.slots <= 0:
        return None
    right = limits.double_share * seen.clicks**2 / seen.slots
    allowed = limits.double_tolerance * right + limits.deviations * math.sqrt(max(1.0, right))
    if abs(seen.double_clicks - right) > allowed:
        return AbortReason(
            AbortCode.DOUBLE_CLICKS, f"{seen.double_clicks:.0f} double clicks where {right:.0f} are expected."
        )
    return None


def _both(key: Sequence[float], test: Sequence[float]) -> list[float]:
    return [one + other for one, other in zip(key, test, strict=True)]
