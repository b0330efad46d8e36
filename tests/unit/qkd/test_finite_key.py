"""The finite-key bounds against published figures, an independent library, and exact arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal, localcontext
from itertools import product

import pytest

from qedge.qkd.finite_key.decoy import two_decoys
from qedge.qkd.finite_key.entropy import binary_entropy, divergence
from qedge.qkd.finite_key.length import expected_key_length, key_length
from qedge.qkd.finite_key.model import BasisCounts, Counts, DecoyProtocol, EpsilonBudget, Estimate, KeyLength, WhyZero
from qedge.qkd.finite_key.sampling import published_term, strict_term
from qedge.qkd.planning.channel import RECEIVERS, Channel
from qedge.qkd.planning.expectation import IDEAL_MESSAGES, ExpectedBlock, expected_block

PAPER = EpsilonBudget(1e-9, 1e-15, 1e-12)
PROTOCOL = DecoyProtocol((0.5, 0.23, 2e-4), (0.3, 0.5, 0.2), 0.86, 0.86)


def whole(counts: Counts) -> Counts:
    """Round expected counts to those of a block."""

    def of(basis: BasisCounts) -> BasisCounts:
        return BasisCounts(tuple(map(round, basis.detections)), tuple(map(round, basis.errors)))

    return Counts(of(counts.key), of(counts.test))


def block_at(km: float, size: float = 1 << 20, protocol: DecoyProtocol = PROTOCOL) -> ExpectedBlock:
    channel = Channel(RECEIVERS["snspd"], 0.2 * km)
    return expected_block(channel, protocol, size, EpsilonBudget(), IDEAL_MESSAGES)


@pytest.mark.parametrize(
    ("km", "size", "settings", "rate"),
    [
        (100, 1e7, (0.8505, 0.3844, 0.4392, 0.4144, 0.2164), 4.73256e-5),
        (50, 1e9, (0.9291, 0.7573, 0.1561, 0.4392, 0.1725), 8.69590e-4),
    ],
)
def test_two_decoys_agree_with_the_figures_of_lim(
    km: float, size: float, settings: tuple[float, ...], rate: float
) -> None:
    z, first, second, high, middle = settings
    protocol = DecoyProtocol((high, middle, 2e-4), (first, second, 1 - first - second), z, z)
    channel = Channel(RECEIVERS["lim2014"], 0.2 * km)
    block = expected_block(channel, protocol, size, PAPER, IDEAL_MESSAGES, Estimate.PUBLISHED)
    assert block.key.exact / block.pulses == pytest.approx(rate, rel=1e-5)


def test_one_decoy_agrees_with_the_figures_of_rusca() -> None:
    protocol = DecoyProtocol((0.5, 0.15), (0.7, 0.3), 0.9, 0.9)
    channel = Channel(RECEIVERS["rusca2018"], 26.0)
    block = expected_block(channel, protocol, 1e7, PAPER, IDEAL_MESSAGES, Estimate.PUBLISHED)
    assert block.secret_bits_per_s == pytest.approx(1.21731e5, rel=1e-4)


def test_bounds_agree_with_an_independent_library() -> None:
    core = pytest.importorskip("qkd")._core
    for km, size, eps in product((0, 40, 120), (1e5, 1e7), (1e-9, 1e-12)):
        counts = block_at(km, size).counts
        means, chances = PROTOCOL.mean_photon_numbers, PROTOCOL.intensity_probabilities
        nats = math.log(21 / eps)
        ours = two_decoys(PROTOCOL, counts, nats, Estimate.PUBLISHED)
        vacuum, single = core.decoy_counts(*means, chances, counts.key.detections, eps / 21)
        _, tested = core.decoy_counts(*means, chances, counts.test.detections, eps / 21)
        wrong = core.decoy_errors(*means, chances, counts.test.errors, eps / 21)
        assert (ours.vacuum, ours.single, ours.test_single) == pytest.approx((vacuum, single, tested), rel=1e-5)
        assert ours.test_single_errors == pytest.approx(wrong, rel=1e-5)
        leaked = 1.16 * counts.key.total * binary_entropy(counts.key.error_rate)
        found = expected_key_length(
            PROTOCOL, counts, leaked, EpsilonBudget(eps, 1e-15, 1e-12), estimate=Estimate.PUBLISHED
        )
        phase = core.bb84_phase(wrong, tested, single, eps) if tested > 0 else 0.5
        assert found.phase_error == pytest.approx(min(0.5, phase), rel=1e-5)
        length = core.bb84_length(vacuum, single, phase, counts.key.total, counts.key.error_rate, 1.16, eps, 1e-15)
        assert found.bits == pytest.approx(max(0.0, length), rel=1e-5, abs=2)


def test_decoys_of_an_endless_block_reach_as_far_as_published() -> None:
    """GYS with vacuum and weak decoy, Ma et al. 2005: no key beyond 140.55 km."""
    protocol = DecoyProtocol((0.48, 0.05, 0.0), (0.4, 0.3, 0.3), 0.5, 0.5)

    def rate(km: float) -> float:
        channel = Channel(RECEIVERS["gys2004"], 0.21 * km)
        counts = expected_block(channel, protocol, 1e9, PAPER, IDEAL_MESSAGES).counts
        bounds = two_decoys(protocol, counts, 0.0, Estimate.PUBLISHED)
        phase = min(0.5, bounds.test_single_errors / bounds.test_single)
        # the signal's share of single photons: the paper makes key of the signal alone
        share = 0.4 * math.exp(-0.48) * 0.48 / protocol.single_share
        gain, error = counts.key.detections[0], counts.key.errors[0] / counts.key.detections[0]
        return share * bounds.single * (1 - binary_entropy(phase)) - 1.22 * gain * binary_entropy(error)

    assert rate(140.35) > 0 > rate(140.75)


def test_floating_point_stays_within_the_margin_of_exact_arithmetic() -> None:
    for km, size in product((0.0, 25.0, 100.0), (1 << 16, 1 << 20, 1 << 34)):
        counts = whole(block_at(km, size).counts)
        found = key_length(PROTOCOL, counts, size // 10, EpsilonBudget(), estimate=Estimate.PUBLISHED)
        exact = lim_in_decimal(PROTOCOL, counts, size // 10, EpsilonBudget())
        assert abs(Decimal(found.exact) - exact) < Decimal(found.rounding)
        assert found.bits <= max(0, exact)
        assert found.bits >= exact - 2 - 4 * Decimal(found.rounding)


def lim_in_decimal(protocol: DecoyProtocol, counts: Counts, leaked: int, budget: EpsilonBudget) -> Decimal:
    """Compute Lim et al. 2014, eqs. 1 to 5, with 50 digits and nothing of the code under test."""
    with localcontext() as context:
        context.prec = 50
        k = [Decimal(mean) for mean in protocol.mean_photon_numbers]
        p = [Decimal(chance) for chance in protocol.intensity_probabilities]
        eps = Decimal(budget.secrecy) / 21
        ln2 = Decimal(2).ln()
        tau = [sum(pk * (-kk).exp() * kk**n for pk, kk in zip(p, k, strict=True)) for n in (0, 1)]

        def ends(numbers: tuple[float, ...], sign: int) -> list[Decimal]:
            away = (sum(map(Decimal, numbers)) / 2 * -eps.ln()).sqrt()
            return [kk.exp() / pk * (Decimal(n) + sign * away) for n, kk, pk in zip(numbers, k, p, strict=True)]

        def photons(numbers: tuple[float, ...]) -> tuple[Decimal, Decimal]:
            low, high = ends(numbers, -1), ends(numbers, 1)
            s0 = max(Decimal(0), tau[0] * (k[1] * low[2] - k[2] * high[1]) / (k[1] - k[2]))
            inner = low[1] - high[2] - (k[1] ** 2 - k[2] ** 2) / k[0] ** 2 * (high[0] - s0 / tau[0])
            return s0, max(Decimal(0), tau[1] * k[0] * inner / (k[0] * (k[1] - k[2]) - k[1] ** 2 + k[2] ** 2))

        s0, s1 = photons(counts.key.detections)
        _, c = photons(counts.test.detections)
        v1 = tau[1] * (ends(counts.test.errors, 1)[1] - ends(counts.test.errors, -1)[2]) / (k[1] - k[2])
        price = leaked - 6 * eps.ln() / ln2 + 1 - Decimal(budget.correctness).ln() / ln2
        if s1 <= 0 or c <= 0 or v1 / c >= Decimal("0.5"):
            return s0 - price
        b = v1 / c
        share = (c + s1) / (c * s1)
        bits = (share / (b * (1 - b)) / eps**2).ln() / ln2
        phi = min(Decimal("0.5"), b + (share * (1 - b) * b / ln2 * bits).sqrt())
        entropy = -(phi * phi.ln() + (1 - phi) * (1 - phi).ln()) / ln2
        return s0 + s1 * (1 - entropy) - price


@pytest.mark.parametrize(("tested", "kept", "wrong"), [(40, 60, 12), (60, 30, 8), (25, 200, 4), (80, 80, 80)])
def test_strict_sampling_bound_fails_no_more_often_than_it_says(tested: int, kept: int, wrong: int) -> None:
    """Sum the hypergeometric law over all samples that would mislead."""
    for failure in (0.1, 1e-3, 1e-6):
        missed = 0.0
        for seen in range(max(0, wrong - kept), min(tested, wrong) + 1):
            rest = (wrong - seen) / kept
            if rest > seen / tested + strict_term(failure, seen / tested, tested, kept):
                missed += math.comb(tested, seen) * math.comb(kept, wrong - seen) / math.comb(tested + kept, wrong)
        assert missed <= failure


def test_published_sampling_term_is_nothing_without_an_error_and_the_strict_one_is_not() -> None:
    assert published_term(1e-10, 0.0, 50, 1e6) == 0.0
    # fifty bits without an error say little: with a rate of a third that happens once in 10^9
    assert strict_term(1e-10, 0.0, 50, 1e6) > 1 / 3
    assert strict_term(1e-10, 0.0, 5, 1e6) > 0.98
    counts = replace_errors(whole(block_at(25).counts), 0)
    careless = key_length(PROTOCOL, counts, 0, EpsilonBudget(), estimate=Estimate.PUBLISHED)
    assert careless.phase_error == 0.0
    assert key_length(PROTOCOL, counts, 0, EpsilonBudget()).phase_error > 0.002


def replace_errors(counts: Counts, errors: int) -> Counts:
    return replace(counts, test=replace(counts.test, errors=(errors,) * len(counts.test.errors)))


def test_ordinary_blocks_get_more_key_by_the_strict_estimate() -> None:
    counts = whole(block_at(25).counts)
    strict = key_length(PROTOCOL, counts, 100_000, EpsilonBudget())
    printed = key_length(PROTOCOL, counts, 100_000, EpsilonBudget(), estimate=Estimate.PUBLISHED)
    assert (strict.vacuum, strict.single, strict.test_single) == (printed.vacuum, printed.single, printed.test_single)
    assert strict.test_single_errors <= counts.test.wrong < printed.test_single_errors
    assert strict.sampling > published_rate(strict)
    assert 1.1 * printed.bits < strict.bits < 1.4 * printed.bits


def published_rate(found: KeyLength) -> float:
    rate = found.test_single_errors / found.test_single
    return published_term(EpsilonBudget().secrecy / 21, rate, found.test_single, found.single)


def test_the_epsilons_add_up() -> None:
    budget = EpsilonBudget()
    assert budget.total == 1e-10
    assert EpsilonBudget.of_total(1e-9).total == pytest.approx(1e-9, rel=1e-15)
    assert budget.after_blocks(1_000_000) == pytest.approx(1e-4)
    assert budget.after_blocks(10**12) == 1.0
    for bad in ((0.0, 1e-12, 1e-12), (1e-10, -1e-12, 1e-12), (1e-10, 1e-12, 1.0)):
        with pytest.raises(ValueError, match="epsilon"):
            EpsilonBudget(*bad)


def test_every_leaked_and_every_dropped_bit_is_paid() -> None:
    counts = whole(block_at(25).counts)
    before = key_length(PROTOCOL, counts, 90_000, EpsilonBudget())
    assert before.bits - key_length(PROTOCOL, counts, 90_001, EpsilonBudget()).bits == 1
    dropped = key_length(PROTOCOL, counts, 90_000, EpsilonBudget(), dropped_bits=131_072)
    assert before.bits - dropped.bits == 131_072
    left = whole(block_at(25, (1 << 20) - 131_072).counts)
    assert dropped.bits < key_length(PROTOCOL, left, 90_000, EpsilonBudget()).bits  # never more than had they not come


@pytest.mark.parametrize(
    ("counts", "leaked", "why"),
    [
        (Counts(BasisCounts((0, 0, 0), (0, 0, 0)), BasisCounts((9, 9, 9), (0, 0, 0))), 0, WhyZero.NO_DETECTIONS),
        (Counts(BasisCounts((9, 9, 9), (0, 0, 0)), BasisCounts((9, 9, 9), (0, 0, 0))), 0, WhyZero.NO_SINGLES),
        (replace(whole(block_at(25).counts), test=BasisCounts((9, 9, 9), (0, 0, 0))), 0, WhyZero.PHASE_ERROR),
        (whole(block_at(25).counts), 1 << 20, WhyZero.LEAK),
        (whole(block_at(25).counts), 1, WhyZero.NONE),
    ],
)
def test_a_block_without_key_says_why(counts: Counts, leaked: int, why: WhyZero) -> None:
    found = key_length(PROTOCOL, counts, leaked, EpsilonBudget())
    assert found.why_zero == why
    assert (found.bits == 0) == (why is not WhyZero.NONE)


def test_a_block_too_short_for_its_epsilons_says_so() -> None:
    counts = whole(block_at(25).counts)
    most = key_length(PROTOCOL, counts, 0, EpsilonBudget()).bits
    assert key_length(PROTOCOL, counts, most + 10, EpsilonBudget()).why_zero is WhyZero.TOO_SHORT


def test_the_other_end_takes_the_length_that_was_computed_and_none_above() -> None:
    counts = whole(block_at(25).counts)
    found = key_length(PROTOCOL, counts, 90_000, EpsilonBudget())
    assert found.allows(found.bits)
    assert found.allows(0)
    assert not found.allows(found.bits + 2)
    assert not found.allows(-1)
    none = key_length(PROTOCOL, counts, 1 << 20, EpsilonBudget())
    assert none.allows(0)
    assert not none.allows(1)


def test_counts_that_are_none_are_refused() -> None:
    good = whole(block_at(25).counts)
    for basis in (
        BasisCounts((1, 2), (0, 0)),
        BasisCounts((1, 2, 3), (2, 0, 0)),
        BasisCounts((1, 2, 3), (-1, 0, 0)),
        BasisCounts((1.0, 2, 3), (0, 0, 0)),
    ):
        with pytest.raises(ValueError, match=r"counts|errors"):
            key_length(PROTOCOL, replace(good, key=basis), 0, EpsilonBudget())
    for leaked, dropped in ((-1, 0), (0, -1), (0, 1 << 21)):
        with pytest.raises(ValueError, match="leaked"):
            key_length(PROTOCOL, good, leaked, EpsilonBudget(), dropped_bits=dropped)


@pytest.mark.parametrize(
    ("means", "chances", "z"),
    [
        ((0.5, 0.3, 0.25), (0.4, 0.3, 0.3), 0.9),  # the proof wants μ1 > μ2 + μ3
        ((0.5, 0.5, 0.0), (0.4, 0.3, 0.3), 0.9),
        ((0.5, 0.1, -0.1), (0.4, 0.3, 0.3), 0.9),
        ((0.5, 0.1, 0.0), (0.4, 0.3, 0.2), 0.9),
        ((0.5, 0.1, 0.0), (0.7, 0.3, 0.0), 0.9),
        ((0.5, 0.0), (0.5, 0.5), 0.9),
        ((0.5,), (1.0,), 0.9),
        ((0.5, math.nan), (0.5, 0.5), 0.9),
        ((0.5, 0.1), (0.5, 0.5), 1.0),
    ],
)
def test_a_protocol_that_no_proof_covers_is_refused(
    means: tuple[float, ...], chances: tuple[float, ...], z: float
) -> None:
    with pytest.raises(ValueError, match=r"intensit|photon|decoy|bases|probabilit"):
        DecoyProtocol(means, chances, z, z)


def test_entropies_have_their_values_at_the_ends() -> None:
    assert [binary_entropy(x) for x in (0.0, 0.5, 1.0)] == [0.0, 1.0, 0.0]
    assert binary_entropy(0.11003) == pytest.approx(0.5, abs=1e-4)
    assert divergence(0.0, 0.5) == pytest.approx(math.log(2))
    assert divergence(0.3, 0.3) == 0.0
    assert divergence(0.3, 1.0) == divergence(0.3, 0.0) == math.inf
