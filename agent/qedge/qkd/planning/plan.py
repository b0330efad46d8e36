"""Secret rate against distance, with the settings of the source that give most key of blocks of one size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from qedge.qkd.finite_key.entropy import binary_entropy
from qedge.qkd.finite_key.model import DecoyProtocol, EpsilonBudget, Estimate
from qedge.qkd.planning.channel import Channel, Receiver, repeaterless_bound
from qedge.qkd.planning.expectation import ExpectedBlock, PostProcessing, expected_block
from qedge.qkd.planning.search import Point, maximise

WEAKEST: Final = 2e-4
"""Mean photons of the weakest of three intensities: what a modulator leaves when it is shut."""

_LEAST_CHANCE: Final = 1e-3
_LONG_BLOCK: Final = 10**8


@dataclass(frozen=True, slots=True)
class LinkDesign:
    """What is given of a link, and what a plan is made for."""

    receiver: Receiver
    block: int
    """Detections of the key basis in one block."""
    decoys: int = 2
    clock_hz: float = 1e9
    loss_db_per_km: float = 0.2
    weakest: float = WEAKEST
    budget: EpsilonBudget = field(default_factory=EpsilonBudget)
    processing: PostProcessing = field(default_factory=PostProcessing)
    estimate: Estimate = Estimate.STRICT

    def channel(self, distance_km: float) -> Channel:
        """Return the channel over a fibre of this length."""
        return Channel(self.receiver, distance_km * self.loss_db_per_km, self.clock_hz)

    def expected(self, channel: Channel, protocol: DecoyProtocol) -> ExpectedBlock:
        """Predict a block of this design on a channel."""
        return expected_block(channel, protocol, self.block, self.budget, self.processing, self.estimate)


@dataclass(frozen=True, slots=True)
class PlanPoint:
    """The best block at one distance. Rates are bits per second."""

    distance_km: float
    loss_db: float
    protocol: DecoyProtocol
    block: ExpectedBlock
    sifted_bits_per_s: float
    qber: float
    secret_bits_per_s: float
    """Finite-size secret key after authentication; 0 where a block gives none."""
    bound_bits_per_s: float
    """What no protocol without a repeater exceeds over this fibre with this receiver (PLOB)."""
    asymptotic_bits_per_s: float
    """Limit of infinitely long blocks and perfectly known yields, for comparison: never what a link delivers."""


def plan_point(design: LinkDesign, distance_km: float, near: DecoyProtocol | None = None) -> PlanPoint:
    """Find the best settings at one distance; `near` are those of a distance close to it, if known."""
    return _point(design, distance_km, best_protocol(design, design.channel(distance_km), near))


def plan(design: LinkDesign, distances_km: Iterable[float]) -> list[PlanPoint]:
    """Plan distances, given in rising order, each search beginning where that of the one before ended.

    Beyond the first distance without a key nothing is searched: more loss gives no block more key.
    """
    points: list[PlanPoint] = []
    for distance in distances_km:
        before = points[-1] if points else None
        if before is None or before.secret_bits_per_s > 0:
            points.append(plan_point(design, distance, before.protocol if before else None))
        else:
            points.append(_point(design, distance, before.protocol))
    return points


def _point(design: LinkDesign, distance_km: float, protocol: DecoyProtocol) -> PlanPoint:
    channel = design.channel(distance_km)
    block = design.expected(channel, protocol)
    return PlanPoint(
        distance_km,
        channel.loss_db,
        protocol,
        block,
        design.block / block.seconds,
        block.counts.key.error_rate,
        block.secret_bits_per_s,
        design.clock_hz * repeaterless_bound(channel.transmittance),
        asymptotic_rate(channel, protocol, design.processing.efficiency),
    )


def best_protocol(design: LinkDesign, channel: Channel, near: DecoyProtocol | None = None) -> DecoyProtocol:
    """Find the protocol of most secret bits per second for blocks of the design's size.

    Where none gives any it is the one of near by, or an ordinary one.
    """
    two = design.decoys == 2
    starts: tuple[Point, ...] = _TWO_STARTS if two else _ONE_STARTS
    if near is not None:
        starts = (_variables(near), starts[0])

    def merit(point: Point) -> float:
        return design.expected(channel, _protocol(point, design)).merit

    bounds = _TWO_BOUNDS if two else _ONE_BOUNDS
    place, value = max((maximise(merit, start, bounds) for start in starts), key=lambda each: each[1])
    if value <= 0 and design.block < _LONG_BLOCK:
        # Short blocks give key in a small part of the box only; longer ones lead there.
        longer = best_protocol(replace(design, block=design.block * 4), channel, near)
        place, value = maximise(merit, _variables(longer), bounds, step=0.03)
    # A simplex may have gone flat on its way: a second one from the same place does not.
    place, value = maximise(merit, place, bounds, step=0.03)
    return _protocol(place if value > 0 else starts[0], design)


def asymptotic_rate(channel: Channel, protocol: DecoyProtocol, efficiency: float) -> float:
    """Bits per second of endless blocks, all signal, all key basis, yields known exactly (Lo, Ma, Chen 2005)."""
    mean = protocol.mean_photon_numbers[0]
    gain = channel.gain(mean)
    duty = channel.duty(gain)
    return channel.clock_hz * duty * asymptotic_bits_per_pulse(channel, mean, efficiency)


def asymptotic_bits_per_pulse(channel: Channel, mean: float, efficiency: float) -> float:
    """Q_1 [1 − h(e_1)] − f Q_μ h(E_μ), not below 0: bits per signal pulse detected in equal bases.

    Y_1 = Y_0 + η − Y_0 η with Y_0 = 2 p_d; afterpulses are not in the yields of single photons.
    """
    eta, receiver = channel.transmittance, channel.receiver
    background = 2 * receiver.dark_counts
    single_yield = background + eta - background * eta
    single_error = (background / 2 + receiver.misalignment * eta) / single_yield
    gain = channel.gain(mean)
    error = channel.error_gain(mean) / gain
    secret = single_yield * mean * math.exp(-mean) * (1 - binary_entropy(min(0.5, single_error)))
    return max(0.0, secret - efficiency * gain * binary_entropy(error))


# Variables of the search: μ1, μ2 as a share of μ1, p1, share of the decoy in what is left of the pulses, p_Z; with
# one decoy there is no share to choose.
_TWO_BOUNDS: Final = ((0.05, 1.2), (0.02, 0.9), (0.02, 0.995), (0.02, 0.98), (0.3, 0.995))
_TWO_STARTS: Final = ((0.45, 0.35, 0.6, 0.7, 0.9), (0.5, 0.5, 0.3, 0.6, 0.7))
_ONE_BOUNDS: Final = ((0.05, 1.2), (0.05, 0.95), (0.02, 0.995), (0.3, 0.995))
_ONE_STARTS: Final = ((0.45, 0.35, 0.7, 0.9), (0.4, 0.35, 0.4, 0.7))


def _protocol(point: Point, design: LinkDesign) -> DecoyProtocol:
    if design.decoys == 2:
        high, share, signal, decoy, z = point
        middle = max(share * high, 2 * design.weakest)
        middle = min(middle, (high - design.weakest) * (1 - 1e-6))
        second = max((1 - signal) * decoy, _LEAST_CHANCE)
        third = max(1 - signal - second, _LEAST_CHANCE)
        return DecoyProtocol((high, middle, design.weakest), (1 - second - third, second, third), z, z)
    high, share, signal, z = point
    return DecoyProtocol((high, share * high), (signal, 1 - signal), z, z)


def _variables(protocol: DecoyProtocol) -> Point:
    high, middle = protocol.mean_photon_numbers[:2]
    first, second = protocol.intensity_probabilities[:2]
    shares = (second / (1 - first),) if protocol.decoys == 2 else ()
    return (high, middle / high, first, *shares, protocol.z_probability_alice)
