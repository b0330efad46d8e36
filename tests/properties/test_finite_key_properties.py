"""What holds of the key length whatever the counts are."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.qkd.finite_key.length import key_length
from qedge.qkd.finite_key.limits import Seen, StatisticsLimits, check_statistics
from qedge.qkd.finite_key.model import BasisCounts, Counts, DecoyProtocol, EpsilonBudget, Estimate
from qedge.qkd.finite_key.sampling import strict_term
from qedge.qkd.planning.channel import Channel, Receiver, repeaterless_bound
from qedge.qkd.planning.expectation import IDEAL_MESSAGES, expected_block


@st.composite
def protocols(draw: st.DrawFn) -> DecoyProtocol:
    high = draw(st.floats(0.05, 1.5))
    middle = high * draw(st.floats(0.05, 0.9))
    first, second, third = (draw(st.floats(0.02, 1)) for _ in range(3))
    z = draw(st.floats(0.1, 0.99))
    if draw(st.booleans()):
        low = min(middle, high - middle) * draw(st.floats(0, 0.8))
        total = first + second + third
        return DecoyProtocol((high, middle, low), (first / total, second / total, 1 - (first + second) / total), z, z)
    return DecoyProtocol((high, middle), (first / (first + second), 1 - first / (first + second)), z, z)


@st.composite
def anything(draw: st.DrawFn) -> tuple[DecoyProtocol, Counts, int]:
    protocol = draw(protocols())

    def basis() -> BasisCounts:
        detections = tuple(draw(st.integers(0, 1 << draw(st.integers(0, 34)))) for _ in protocol.mean_photon_numbers)
        return BasisCounts(detections, tuple(draw(st.integers(0, most)) for most in detections))

    return protocol, Counts(basis(), basis()), draw(st.integers(0, 1 << 20))


@st.composite
def links(draw: st.DrawFn) -> tuple[DecoyProtocol, Channel, float]:
    receiver = Receiver(
        draw(st.floats(0.05, 1)), 10 ** draw(st.floats(-9, -5)), draw(st.floats(0, 0.05)), draw(st.floats(0, 0.05))
    )
    return draw(protocols()), Channel(receiver, draw(st.floats(0, 40))), 10 ** draw(st.floats(4, 11))


@given(anything(), st.sampled_from(Estimate))
def test_a_key_is_never_negative_nor_longer_than_what_was_sifted_and_kept(
    case: tuple[DecoyProtocol, Counts, int], estimate: Estimate
) -> None:
    protocol, counts, leaked = case
    dropped = min(leaked, int(counts.key.total) // 2)
    found = key_length(protocol, counts, leaked, EpsilonBudget(), dropped_bits=dropped, estimate=estimate)
    assert isinstance(found.bits, int)
    assert 0 <= found.bits <= max(0, counts.key.total - leaked - dropped)
    assert 0 <= found.phase_error <= 0.5
    assert found.vacuum + found.single <= counts.key.total
    assert (found.bits == 0) == bool(found.why_zero)
    assert found.allows(found.bits)


@settings(max_examples=30)
@given(anything())
def test_the_same_counts_give_the_same_answers(case: tuple[DecoyProtocol, Counts, int]) -> None:
    protocol, counts, leaked = case
    assert key_length(protocol, counts, leaked, EpsilonBudget()) == key_length(
        protocol, counts, leaked, EpsilonBudget()
    )
    limits = StatisticsLimits(expected_gains=(0.1,) * len(protocol.mean_photon_numbers))
    seen = Seen(slots=1000)
    assert check_statistics(protocol, counts, limits, seen) == check_statistics(protocol, counts, limits, seen)


@settings(max_examples=40)
@given(links(), st.integers(0, 1000))
def test_more_leaked_bits_more_errors_and_smaller_epsilons_give_less_key(
    link: tuple[DecoyProtocol, Channel, float], more: int
) -> None:
    protocol, channel, size = link
    exact = expected_block(channel, protocol, size, EpsilonBudget(), IDEAL_MESSAGES).counts

    def of(basis: BasisCounts) -> BasisCounts:
        return BasisCounts(tuple(map(round, basis.detections)), tuple(map(int, basis.errors)))

    counts = Counts(of(exact.key), of(exact.test))
    before = key_length(protocol, counts, 100, EpsilonBudget()).bits
    assert key_length(protocol, counts, 100 + more, EpsilonBudget()).bits <= before
    assert key_length(protocol, counts, 100, EpsilonBudget.of_total(1e-12)).bits <= before
    assert key_length(protocol, counts, 100, EpsilonBudget.of_total(1e-8)).bits >= before
    # Of the weakest intensity, errors say that they come from dark counts: those of the others are the bad ones.
    worse = list(counts.test.errors)
    worse[-2] = min(counts.test.detections[-2], worse[-2] + more)
    noisier = replace(counts, test=replace(counts.test, errors=tuple(worse)))
    assert key_length(protocol, noisier, 100, EpsilonBudget()).bits <= before


@settings(max_examples=60)
@given(links(), st.sampled_from(Estimate))
def test_secret_bits_per_pulse_never_exceed_the_repeaterless_bound(
    link: tuple[DecoyProtocol, Channel, float], estimate: Estimate
) -> None:
    protocol, channel, size = link
    block = expected_block(channel, protocol, size, EpsilonBudget(), IDEAL_MESSAGES, estimate)
    assert block.key.bits / block.pulses <= repeaterless_bound(channel.transmittance)


@given(
    st.floats(1e-15, 1e-3),
    st.floats(0, 0.5),
    st.floats(1, 1e10),
    st.floats(1, 1e10),
    st.floats(1, 10),
)
def test_the_strict_sampling_bound_grows_with_the_rate_and_shrinks_with_more_bits(
    failure: float, rate: float, tested: float, kept: float, more: float
) -> None:
    base = rate + strict_term(failure, rate, tested, kept)
    assert rate <= base <= 1
    slack = 1e-9 * base
    assert min(1.0, rate * more) + strict_term(failure, min(1.0, rate * more), tested, kept) >= base - slack
    assert rate + strict_term(failure, rate, tested * more, kept) <= base + slack
    assert rate + strict_term(failure, rate, tested, kept * more) <= base + slack
    assert rate + strict_term(failure / more, rate, tested, kept) >= base - slack
