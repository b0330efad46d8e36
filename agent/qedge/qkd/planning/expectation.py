"""What a block will look like on a channel, and the secret rate that it gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from qedge.qkd.finite_key.entropy import binary_entropy
from qedge.qkd.finite_key.length import expected_key_length
from qedge.qkd.finite_key.model import BasisCounts, Counts, DecoyProtocol, EpsilonBudget, Estimate, KeyLength
from qedge.qkd.planning.channel import Channel

FRAME_BITS: Final = 131_072


@dataclass(frozen=True, slots=True)
class PostProcessing:
    """What reconciliation and authentication take: `efficiency` f = disclosed bits / (n h(QBER)), at least 1.

    `tag_bits` verify each frame of `frame_bits`. `authentication_bits` of key are used up by the messages of a
    block, and are taken from the key before it is delivered.
    """

    efficiency: float = 1.15
    frame_bits: int = FRAME_BITS
    tag_bits: int = 128
    authentication_bits: int = 1024


IDEAL_MESSAGES: Final = PostProcessing(1.16, tag_bits=0, authentication_bits=0)
"""What papers calculate with: no tags, authentication for nothing."""


@dataclass(frozen=True, slots=True)
class ExpectedBlock:
    """A block of a given number of detections in the key basis, by its expected counts."""

    counts: Counts
    pulses: float
    """Pulses that Alice sends for it while the receiver is ready."""
    seconds: float
    """How long it takes, dead time included."""
    key: KeyLength
    secret_bits: float
    """Key of the block less what authentication takes of it; never below 0."""

    @property
    def secret_bits_per_s(self) -> float:
        """Secret key per second."""
        return self.secret_bits / self.seconds

    @property
    def merit(self) -> float:
        """What an optimiser climbs: bits per second, or, where there are none yet, the bits that are missing."""
        return self.key.exact / self.seconds if self.key.exact > 0 else self.key.exact


def expected_counts(channel: Channel, protocol: DecoyProtocol, block: float) -> tuple[Counts, float, float]:
    """Return expected counts of a block of `block` detections in the key basis, its pulses, and its seconds."""
    gains = [channel.gain(mean) for mean in protocol.mean_photon_numbers]
    wrong = [channel.error_gain(mean) for mean in protocol.mean_photon_numbers]
    chances = protocol.intensity_probabilities
    click = sum(chance * gain for chance, gain in zip(chances, gains, strict=True))
    key_share = protocol.z_probability_alice * protocol.z_probability_bob
    test_share = (1 - protocol.z_probability_alice) * (1 - protocol.z_probability_bob)
    pulses = block / (key_share * click)

    def of(share: float) -> BasisCounts:
        return BasisCounts(
            tuple(pulses * share * chance * gain for chance, gain in zip(chances, gains, strict=True)),
            tuple(pulses * share * chance * each for chance, each in zip(chances, wrong, strict=True)),
        )

    return Counts(of(key_share), of(test_share)), pulses, pulses / (channel.clock_hz * channel.duty(click))


def expected_block(
    channel: Channel,
    protocol: DecoyProtocol,
    block: float,
    budget: EpsilonBudget,
    processing: PostProcessing,
    estimate: Estimate = Estimate.STRICT,
) -> ExpectedBlock:
    """Predict a block of `block` detections in the key basis."""
    counts, pulses, seconds = expected_counts(channel, protocol, block)
    leaked = processing.efficiency * block * binary_entropy(counts.key.error_rate)
    leaked += processing.tag_bits * math.ceil(block / processing.frame_bits)
    key = expected_key_length(protocol, counts, leaked, budget, estimate=estimate)
    return ExpectedBlock(counts, pulses, seconds, key, max(0, key.bits - processing.authentication_bits))
