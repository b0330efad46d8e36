import random

import pytest

from qedge.qkd.model import BasisCounts, Detections, Prepared, RawWindow, Verdict
from qedge.qkd.raw import interval, judge, judge_finally, sift


def window(z: tuple[int, int], x: tuple[int, int]) -> RawWindow:
    return RawWindow(10_000_000, 30_000, 10, BasisCounts(*z), BasisCounts(*x))


def test_sifting_counts_what_a_loop_over_the_detections_counts() -> None:
    coin = random.Random(5)
    for number in (0, 1, 7, 1000):
        alice_bases, alice_bits, bob_bases, bob_bits = (
            bytes(coin.getrandbits(1) for _ in range(number)) for _ in range(4)
        )
        block = Detections(0, 10 * number + 1, bytes(8 * number), bob_bases, bob_bits, 0)
        counts = sift(block, Prepared(alice_bases, alice_bits, bytes(number)))
        for basis, found in ((0, counts.z), (1, counts.x)):
            same = [i for i in range(number) if alice_bases[i] == bob_bases[i] == basis]
            assert found == BasisCounts(len(same), sum(alice_bits[i] != bob_bits[i] for i in same))
        assert (counts.slots, counts.detections) == (10 * number + 1, number)


def test_the_interval_holds_the_true_rate_and_shrinks_with_the_sample() -> None:
    low, high = interval(10, 1000)
    assert low < 0.01 < high < 0.04
    wider_low, wider_high = interval(1, 100)
    assert wider_low < low
    assert wider_high > high
    assert interval(0, 0) == (0.0, 1.0)
    assert interval(0, 50)[0] == 0.0
    assert interval(50, 50)[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("z", "x", "verdict"),
    [
        ((16_000, 160), (300, 3), Verdict.CLEAR),
        ((16_000, 4000), (300, 75), Verdict.SUSPECTED),
        ((8_000, 4_010), (8_000, 3_990), Verdict.NO_LIGHT),
        ((16_000, 160), (300, 150), Verdict.SUSPECTED),
        ((16_000, 1_760), (300, 33), None),
        ((20, 0), (0, 0), None),
        ((0, 0), (0, 0), None),
    ],
)
def test_a_window_is_judged_with_its_statistics(
    z: tuple[int, int], x: tuple[int, int], verdict: Verdict | None
) -> None:
    assert judge(window(z, x), 0.11) is verdict


def test_an_eavesdropper_in_the_frequent_basis_is_seen_though_the_sum_looks_quiet() -> None:
    taken = window((19_700, 197), (300, 150))
    assert taken.qber < 0.02
    assert judge(taken, 0.11) is Verdict.SUSPECTED


def test_doubt_is_resolved_against_the_link() -> None:
    assert judge_finally(window((16_000, 1_760), (300, 33)), 0.11) is Verdict.SUSPECTED
    assert judge_finally(RawWindow(10**9), 0.11) is Verdict.NO_LIGHT


def test_windows_add_up() -> None:
    total = window((10, 1), (4, 2)) + window((20, 2), (6, 0))
    assert (total.both.sifted, total.both.errors) == (40, 5)
    assert total.qber == 0.125
    assert total.gain == 60_000 / 20_000_000
