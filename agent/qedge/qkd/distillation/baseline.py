"""What a link's counts are when nothing disturbs it: told by its operator, or learned from its first blocks.

Detectors that are blinded and steered from outside make no errors, so that nothing but the number of their clicks
shows it. What is right for a link its operator knows, or the link itself from a time when nobody was there. What was
learned is not forgotten when a link is opened anew, and does not follow what comes later: it could be led astray.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec

from qedge.qkd.distillation.model import BlockCounts, LinkTerms
from qedge.qkd.finite_key.limits import Seen, StatisticsLimits
from qedge.wire.qkd import Baseline

LEARNED_BLOCKS: Final = 8
"""Blocks that are learned from. The first is judged by nothing, each further one by those before it."""


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator says of a link, and what it has learned before.

    `loss_db` from the source to a click, detector efficiency included; below 0 it is not known. Another number
    `commissioning` has the link learn anew.
    """

    tolerance: Annotated[float, msgspec.Meta(gt=0)] = 0.3
    loss_db: float = -1.0
    commissioning: int = 0
    baseline: Baseline | None = None


class Watch:
    """Judges the counts of blocks, one after the other, and learns from the first ones."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self.baseline = expected.baseline

    def limits(self, terms: LinkTerms) -> StatisticsLimits:
        """Return what the counts of the next block must look like."""
        base, expected = self._of(terms), self._expected
        gains: tuple[float, ...] = ()
        doubles = -1.0
        if base is not None and base.slots > 0 and base.clicks > 0:
            gains, doubles = _gains(terms, base), base.double_clicks * base.slots / base.clicks**2
        if expected.loss_db >= 0:
            seen = math.pow(10, -expected.loss_db / 10)
            gains = tuple(-math.expm1(-seen * mean) for mean in terms.alice.mean_photon_numbers)
        return StatisticsLimits(expected_gains=gains, gain_tolerance=expected.tolerance, double_share=doubles)

    def learn(self, terms: LinkTerms, counts: BlockCounts, seen: Seen) -> Baseline | None:
        """Learn from a block that gave key; returns what is to be kept, None where nothing is new."""
        base = self._of(terms)
        if seen.slots <= 0 or (base is not None and base.blocks >= LEARNED_BLOCKS):
            return None
        detections = tuple(map(sum, zip(counts.key_detections, counts.test_detections, strict=True)))
        if base is None:
            base = Baseline(self._key(terms), 0, 0.0, 0.0, 0.0, (0,) * len(detections))
        self.baseline = Baseline(
            base.terms,
            base.blocks + 1,
            base.slots + seen.slots,
            base.clicks + seen.clicks,
            base.double_clicks + seen.double_clicks,
            tuple(map(sum, zip(base.detections, detections, strict=True))),
        )
        return self.baseline

    def _of(self, terms: LinkTerms) -> Baseline | None:
        """Return what was learned under the same terms."""
        base = self.baseline
        return base if base is not None and base.terms == self._key(terms) else None

    def _key(self, terms: LinkTerms) -> tuple[float, ...]:
        side = terms.alice
        bases = (side.z_probability, terms.bob_z_probability)
        return (float(self._expected.commissioning), *side.mean_photon_numbers, *side.intensity_probabilities, *bases)


def _gains(terms: LinkTerms, base: Baseline) -> tuple[float, ...]:
    alice, bob = terms.alice.z_probability, terms.bob_z_probability
    sifted = alice * bob + (1 - alice) * (1 - bob)
    chances = terms.alice.intensity_probabilities
    return tuple(n / (base.slots * chance * sifted) for n, chance in zip(base.detections, chances, strict=True))
