"""What the counts of a block must look like to be used."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from qedge.qkd.finite_key.entropy import binary_entropy
from qedge.qkd.finite_key.length import key_length
from qedge.qkd.finite_key.limits import AbortCode, Seen, StatisticsLimits, check_statistics
from qedge.qkd.finite_key.model import BasisCounts, Counts, DecoyProtocol, EpsilonBudget
from qedge.qkd.planning.channel import RECEIVERS, Channel
from qedge.qkd.planning.expectation import expected_counts

TWO = DecoyProtocol((0.5, 0.2, 2e-4), (0.5, 0.3, 0.2), 0.86, 0.86)
ONE = DecoyProtocol((0.5, 0.2), (0.6, 0.4), 0.86, 0.86)
LIMITS = StatisticsLimits()


def drawn(expected: Counts, seed: int) -> Counts:
    """Draw a block whose counts are about as expected (normal law, which is near enough for these numbers)."""
    dice = random.Random(seed)

    def of(basis: BasisCounts) -> BasisCounts:
        wrong = [max(0, round(dice.gauss(mean, math.sqrt(mean)))) for mean in basis.errors]
        right = [
            max(0, round(dice.gauss(n - e, math.sqrt(n - e))))
            for n, e in zip(basis.detections, basis.errors, strict=True)
        ]
        return BasisCounts(tuple(r + w for r, w in zip(right, wrong, strict=True)), tuple(wrong))

    return Counts(of(expected.key), of(expected.test))


def intercepted(counts: Counts, share: float) -> Counts:
    """Turn counts into those of a link of which an eavesdropper measures and resends a share of the pulses."""

    def of(basis: BasisCounts) -> BasisCounts:
        return BasisCounts(
            basis.detections,
            tuple(e + share * (n / 2 - e) / 2 for n, e in zip(basis.detections, basis.errors, strict=True)),
        )

    return Counts(of(counts.key), of(counts.test))


def split(counts: Counts, protocol: DecoyProtocol, blocked: float) -> Counts:
    """Remove the detections of a share of the single photons, as who keeps the others' spare photons would."""

    def of(numbers: tuple[float, ...]) -> tuple[float, ...]:
        kept = []
        for number, mean in zip(numbers, protocol.mean_photon_numbers, strict=True):
            singles = math.exp(-mean) if mean > 1e-3 else 0.0  # the share of detections; dark counts stay
            kept.append(number * (1 - blocked * singles))
        return tuple(kept)

    def both(basis: BasisCounts) -> BasisCounts:
        return BasisCounts(of(basis.detections), of(basis.errors))

    return Counts(both(counts.key), both(counts.test))


@pytest.mark.parametrize("protocol", [TWO, ONE], ids=["two decoys", "one decoy"])
@pytest.mark.parametrize("receiver", ["snspd", "ingaas", "lim2014"])
def test_honest_links_of_any_length_are_not_stopped(protocol: DecoyProtocol, receiver: str) -> None:
    for km, seed in ((0, 1), (25, 2), (75, 3), (100, 4)):
        channel = Channel(RECEIVERS[receiver], 0.2 * km)
        expected, pulses, _ = expected_counts(channel, protocol, 1 << 18)
        gains = tuple(channel.gain(mean) for mean in protocol.mean_photon_numbers)
        limits = replace(LIMITS, expected_gains=gains)
        assert check_statistics(protocol, drawn(expected, seed), limits, Seen(pulses)) is None


@pytest.mark.parametrize("protocol", [TWO, ONE], ids=["two decoys", "one decoy"])
def test_an_eavesdropper_on_every_pulse_is_stopped_by_the_errors(protocol: DecoyProtocol) -> None:
    expected, _, _ = expected_counts(Channel(RECEIVERS["snspd"], 5.0), protocol, 1 << 20)
    counts = drawn(intercepted(expected, 1.0), 5)
    assert counts.key.error_rate == pytest.approx(0.25, abs=0.01)
    reason = check_statistics(protocol, counts, LIMITS)
    assert reason is not None
    assert reason.code is AbortCode.KEY_ERRORS
    assert "25" in reason.sentence
    found = key_length(protocol, counts, 0, EpsilonBudget())
    assert found.phase_error > 0.25
    many_more_test_errors = replace(counts, key=replace(counts.key, errors=tuple(0 for _ in counts.key.errors)))
    reason = check_statistics(protocol, many_more_test_errors, LIMITS)
    assert reason is not None
    assert reason.code is AbortCode.TEST_ERRORS


def test_an_eavesdropper_on_a_tenth_of_the_pulses_costs_what_the_bounds_say() -> None:
    expected, _, _ = expected_counts(Channel(RECEIVERS["snspd"], 5.0), TWO, 1 << 20)
    clean = key_length(TWO, drawn(expected, 6), 100_000, EpsilonBudget())
    heard = drawn(intercepted(expected, 0.1), 6)
    assert check_statistics(TWO, heard, LIMITS) is None
    found = key_length(TWO, heard, 100_000, EpsilonBudget())
    # He causes 2.5 % of errors, all of them with single photons for all that the ends know, and may know h(φ) of each
    # of these: that is what is taken off.
    assert heard.test.error_rate - expected.test.error_rate == pytest.approx(0.025, abs=0.005)
    assert found.phase_error > 0.01 + 0.025 * heard.test.total / found.test_single
    known = found.single * binary_entropy(found.phase_error) - clean.single * binary_entropy(clean.phase_error)
    assert clean.bits - found.bits == pytest.approx(known + clean.single - found.single, rel=0.01)
    assert 0 < found.bits < 0.7 * clean.bits


@pytest.mark.parametrize("protocol", [TWO, ONE], ids=["two decoys", "one decoy"])
def test_photon_number_splitting_is_seen_and_costs_key(protocol: DecoyProtocol) -> None:
    expected, _, _ = expected_counts(Channel(RECEIVERS["snspd"], 10.0), protocol, 1 << 20)
    counts = drawn(split(expected, protocol, 0.7), 7)
    reason = check_statistics(protocol, counts, LIMITS)
    assert reason is not None
    assert reason.code is AbortCode.PHOTON_NUMBER
    assert key_length(protocol, counts, 0, EpsilonBudget()).single < 0.5 * counts.key.total


def test_counts_that_no_channel_gives_are_stopped() -> None:
    expected, _, _ = expected_counts(Channel(RECEIVERS["snspd"], 10.0), TWO, 1 << 20)
    counts = drawn(expected, 8)
    signal, decoy, vacuum = counts.key.detections
    bright_vacuum = replace(counts, key=replace(counts.key, detections=(signal, decoy, vacuum + decoy)))
    dim_signal = replace(counts, key=replace(counts.key, detections=(signal // 3, decoy, vacuum)))
    for wrong in (bright_vacuum, dim_signal):
        reason = check_statistics(TWO, wrong, replace(LIMITS, max_key_error_rate=1.0))
        assert reason is not None
        assert reason.code is AbortCode.IMPOSSIBLE_YIELDS


def test_gains_that_are_not_expected_are_stopped_both_ways() -> None:
    channel = Channel(RECEIVERS["snspd"], 5.0)
    expected, pulses, _ = expected_counts(channel, TWO, 1 << 20)
    gains = tuple(channel.gain(mean) for mean in TWO.mean_photon_numbers)
    limits = replace(LIMITS, expected_gains=gains)
    counts = drawn(expected, 9)
    assert check_statistics(TWO, counts, limits, Seen(pulses)) is None
    for factor in (0.7, 1.5):  # blinded detectors, or a fibre that got worse
        reason = check_statistics(TWO, counts, limits, Seen(pulses * factor))
        assert reason is not None
        assert reason.code is AbortCode.GAIN
    assert check_statistics(TWO, counts, limits) is None  # without a number of pulses there is nothing to compare
    with pytest.raises(ValueError, match="each intensity"):
        check_statistics(TWO, counts, replace(LIMITS, expected_gains=(0.1,)), Seen(1000))


def test_a_dark_fibre_is_stopped() -> None:
    nothing = BasisCounts((0, 0, 0), (0, 0, 0))
    reason = check_statistics(TWO, Counts(nothing, nothing), LIMITS)
    assert reason is not None
    assert reason.code is AbortCode.NO_DETECTIONS


def blinded(protocol: DecoyProtocol, pulses: float, measured: float) -> Counts:
    """Return what blinded detectors count: who measures this share of all photons has them click in her basis."""

    def of(alice: float, bob: float) -> BasisCounts:
        pairs = zip(protocol.mean_photon_numbers, protocol.intensity_probabilities, strict=True)
        clicks = [pulses * chance * alice * bob / 2 * (1 - math.exp(-measured * mean)) for mean, chance in pairs]
        return BasisCounts(tuple(clicks), tuple(0.002 * number for number in clicks))

    z_alice, z_bob = protocol.z_probability_alice, protocol.z_probability_bob
    return Counts(of(z_alice, z_bob), of(1 - z_alice, 1 - z_bob))


@pytest.mark.parametrize("receiver", ["snspd", "ingaas"])
@pytest.mark.parametrize("protocol", [TWO, ONE], ids=["two decoys", "one decoy"])
def test_blinded_detectors_show_in_nothing_but_the_gains_that_are_configured(
    protocol: DecoyProtocol, receiver: str
) -> None:
    channel = Channel(RECEIVERS[receiver], 5.0)
    _, pulses, _ = expected_counts(channel, protocol, 1 << 20)
    counts = blinded(protocol, pulses, 0.9)
    assert check_statistics(protocol, counts, LIMITS, Seen(pulses)) is None
    gains = tuple(channel.gain(mean) for mean in protocol.mean_photon_numbers)
    reason = check_statistics(protocol, counts, replace(LIMITS, expected_gains=gains), Seen(pulses))
    assert reason is not None
    assert reason.code is AbortCode.GAIN
