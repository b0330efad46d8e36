"""Channel model, expected blocks and plans against published figures and bounds."""

from __future__ import annotations

import math

import pytest

from qedge.qkd.finite_key.model import DecoyProtocol, EpsilonBudget, Estimate
from qedge.qkd.planning.channel import RECEIVERS, Channel, Receiver, repeaterless_bound
from qedge.qkd.planning.expectation import IDEAL_MESSAGES, PostProcessing, expected_block, expected_counts
from qedge.qkd.planning.plan import (
    LinkDesign,
    asymptotic_bits_per_pulse,
    asymptotic_rate,
    best_protocol,
    plan,
    plan_point,
)
from qedge.qkd.planning.search import maximise


@pytest.mark.parametrize(
    ("loss_db", "bits"),
    [(2, 1.4381), (10, 0.15200), (20, 1.4500e-2), (30, 1.4434e-3), (40, 1.4428e-4), (60, 1.4427e-6)],
)
def test_the_repeaterless_bound_has_its_published_values(loss_db: float, bits: float) -> None:
    assert repeaterless_bound(10 ** (-loss_db / 10)) == pytest.approx(bits, rel=5e-5)


def test_the_repeaterless_bound_keeps_its_digits_where_light_is_nearly_gone() -> None:
    assert repeaterless_bound(1e-20) == pytest.approx(1e-20 / math.log(2), rel=1e-12)
    assert repeaterless_bound(1.0) == math.inf


@pytest.mark.parametrize(("km", "rate"), [(0, 2.555e-3), (40, 3.631e-4), (100, 1.718e-5)])
def test_endless_blocks_on_the_gys_link_give_the_published_rate(km: float, rate: float) -> None:
    channel = Channel(RECEIVERS["gys2004"], 0.21 * km)
    assert asymptotic_bits_per_pulse(channel, 0.48, 1.22) / 2 == pytest.approx(rate, rel=2e-3)


def test_endless_blocks_on_the_gys_link_reach_as_far_as_published() -> None:
    def rate(km: float) -> float:
        return asymptotic_bits_per_pulse(Channel(RECEIVERS["gys2004"], 0.21 * km), 0.48, 1.22)

    assert rate(141.9) > 0
    assert rate(142.1) == 0
    near = Channel(RECEIVERS["gys2004"], 0.0)
    means = [0.3 + 0.01 * i for i in range(50)]
    for efficiency, best in ((1.22, 0.48), (1.0, 0.54)):
        found = max(means, key=lambda mean: asymptotic_bits_per_pulse(near, mean, efficiency))
        assert found == pytest.approx(best, abs=0.011)


@pytest.mark.parametrize(
    ("size", "km", "digitised", "rate"),
    [
        (10**6, 0, 3.32e-3, 3.19e-3),
        (10**6, 50, 3.17e-4, 3.05e-4),
        (10**6, 100, 2.87e-5, 2.75e-5),
        (10**7, 0, 5.19e-3, 5.36e-3),
        (10**7, 50, 4.99e-4, 5.14e-4),
        (10**7, 100, 4.64e-5, 4.77e-5),
        (10**9, 0, 8.85e-3, 9.20e-3),
        (10**9, 50, 8.54e-4, 8.90e-4),
        (10**9, 100, 8.17e-5, 8.54e-5),
    ],
)
def test_plans_find_the_rates_of_the_figure_of_lim(size: int, km: float, digitised: float, rate: float) -> None:
    """ε_sec is 1e-15 for each bit of the key there: two rounds find the length that it is for."""
    length, near = 0.4 * size, None
    for _ in range(2):
        budget = EpsilonBudget(1e-15 * length, 1e-15, 1e-12)
        design = LinkDesign(
            RECEIVERS["lim2014"], size, processing=IDEAL_MESSAGES, budget=budget, estimate=Estimate.PUBLISHED
        )
        point = plan_point(design, km, near)
        length, near = point.block.key.bits, point.protocol
    found = point.block.key.exact / point.block.pulses
    assert found == pytest.approx(digitised, rel=0.05)
    assert found == pytest.approx(rate, rel=0.005)


@pytest.mark.parametrize(("loss_db", "rate"), [(10, 2.07e6), (26, 1.23e5), (40, 5.07e3), (50, 4.69e2), (60, 17.0)])
def test_plans_find_the_rates_of_one_decoy_by_rusca(loss_db: float, rate: float) -> None:
    design = LinkDesign(
        RECEIVERS["rusca2018"],
        10**7,
        decoys=1,
        processing=IDEAL_MESSAGES,
        budget=EpsilonBudget(1e-9, 1e-15, 1e-12),
        estimate=Estimate.PUBLISHED,
        loss_db_per_km=1.0,
    )
    assert plan_point(design, loss_db).secret_bits_per_s == pytest.approx(rate, rel=0.03)


def test_one_decoy_reaches_as_far_as_published() -> None:
    design = LinkDesign(
        RECEIVERS["rusca2018"],
        10**7,
        decoys=1,
        processing=IDEAL_MESSAGES,
        budget=EpsilonBudget(1e-9, 1e-15, 1e-12),
        estimate=Estimate.PUBLISHED,
        loss_db_per_km=1.0,
    )
    points = plan(design, [56.0, 60.0, 62.0, 65.0])
    assert [point.secret_bits_per_s > 0 for point in points] == [True, True, True, False]


@pytest.mark.parametrize(
    ("receiver", "decoys"),
    [
        ("ingaas", 2),
        ("rusca2018", 1),
        *(
            pytest.param(receiver, decoys, marks=pytest.mark.long)
            for receiver in sorted(RECEIVERS)
            for decoys in (1, 2)
            if (receiver, decoys) not in (("ingaas", 2), ("rusca2018", 1))
        ),
    ],
)
def test_no_plan_exceeds_the_repeaterless_bound_nor_the_limit_of_endless_blocks(receiver: str, decoys: int) -> None:
    design = LinkDesign(RECEIVERS[receiver], 1 << 24, decoys)
    points = plan(design, [0.0, 30.0, 120.0, 400.0])
    for point in points:
        assert 0 <= point.secret_bits_per_s <= point.sifted_bits_per_s
        assert point.secret_bits_per_s < point.bound_bits_per_s
        best = max(
            asymptotic_rate(
                design.channel(point.distance_km),
                DecoyProtocol((mean, mean / 4), (0.9, 0.1), 0.9, 0.9),
                design.processing.efficiency,
            )
            for mean in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
        )
        assert point.secret_bits_per_s <= best
    rates = [point.secret_bits_per_s for point in points]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0
    assert points[-1].block.key.why_zero


def test_longer_blocks_give_more_of_each_bit() -> None:
    channel = Channel(RECEIVERS["snspd"], 5.0)
    shares = []
    for power in (16, 20, 24):
        design = LinkDesign(RECEIVERS["snspd"], 1 << power)
        found = design.expected(channel, best_protocol(design, channel))
        shares.append(found.secret_bits / design.block)
    assert shares == sorted(shares)
    assert shares[0] < 0.3 < 0.45 < shares[-1]


def test_short_blocks_have_settings_that_give_key_too() -> None:
    point = plan_point(LinkDesign(RECEIVERS["ingaas"], 10_000), 25.0)
    assert point.secret_bits_per_s > 0


def test_dead_time_and_the_limit_of_a_counter_hold_back_detections() -> None:
    assert Channel(Receiver(0.5, 0, 0), 0).duty(0.1) == 1.0
    assert Channel(Receiver(0.5, 0, 0, dead_time_s=1e-8), 0).duty(0.1) == pytest.approx(0.5)
    assert Channel(Receiver(0.5, 0, 0, max_counts_per_s=1e7), 0).duty(0.1) == pytest.approx(0.1)
    assert Channel(Receiver(0.5, 0, 0), 0).duty(0.0) == 1.0
    protocol = DecoyProtocol((0.5, 0.2, 0.0), (0.5, 0.3, 0.2), 0.9, 0.9)
    slow = Channel(Receiver(0.5, 1e-8, 0.01, dead_time_s=1e-7), 0)
    fast = Channel(Receiver(0.5, 1e-8, 0.01), 0)
    _, pulses, seconds = expected_counts(slow, protocol, 1e6)
    assert (pulses, seconds > 5 * pulses / slow.clock_hz) == (expected_counts(fast, protocol, 1e6)[1], True)


def test_messages_are_paid_from_the_key() -> None:
    channel = Channel(RECEIVERS["snspd"], 5.0)
    protocol = DecoyProtocol((0.5, 0.23, 2e-4), (0.3, 0.5, 0.2), 0.86, 0.86)
    free = expected_block(
        channel, protocol, 1 << 20, EpsilonBudget(), PostProcessing(1.15, tag_bits=0, authentication_bits=0)
    )
    paid = expected_block(channel, protocol, 1 << 20, EpsilonBudget(), PostProcessing(1.15))
    assert free.secret_bits - paid.secret_bits == 8 * 128 + 1024
    assert free.key.bits - paid.key.bits == 8 * 128


def test_receivers_that_cannot_be_are_refused() -> None:
    for numbers in (
        (0.0, 0, 0),
        (1.1, 0, 0),
        (0.5, -1, 0),
        (0.5, 0.5, 0),
        (0.5, 0, 0.6),
        (0.5, 0, 0, 1.0),
        (0.5, 0, 0, 0, -1),
    ):
        with pytest.raises(ValueError, match=r"efficiency|probabilities|loss"):
            Receiver(*numbers)


def test_the_search_finds_a_maximum_within_its_box() -> None:
    def hill(place: tuple[float, ...]) -> float:
        x, y = place
        return -((x - 0.3) ** 2) - 10 * (y - 0.7 - (x - 0.3)) ** 2

    assert maximise(hill, (0.9, 0.1), ((0, 1), (0, 1)))[0] == pytest.approx((0.3, 0.7), abs=1e-2)
    edge, value = maximise(lambda place: place[0] - place[1], (0.5, 0.5), ((0, 1), (0, 1)))
    assert (edge, value) == ((1.0, 0.0), 1.0)
