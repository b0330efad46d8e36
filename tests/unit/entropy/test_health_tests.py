"""SP 800-90B health tests: cut-offs as published formulas give them, alarms where they must be and nowhere else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.entropy.health_tests import HealthTests, is_stuck, proportion_cutoff, repetition_cutoff

# Min-entropy per sample, window, then the cut-offs at 2^-20, 2^-30 and 2^-40 of both tests.
GOLDEN = [
    (0.1, 1024, (201, 301, 401), (991, 999, 1005)),
    (0.5, 1024, (41, 61, 81), (793, 810, 824)),
    (0.7, 1024, (30, 44, 59), (705, 723, 739)),
    (0.8, 1024, (26, 39, 51), (664, 683, 699)),
    (0.9, 1024, (24, 35, 46), (625, 645, 661)),
    (1.0, 1024, (21, 31, 41), (589, 609, 625)),
    (1.0, 512, (21, 31, 41), (311, 325, 336)),
    (2.0, 512, (11, 16, 21), (177, 190, 201)),
    (4.0, 512, (6, 9, 11), (62, 71, 78)),
    (6.0, 512, (5, 6, 8), (25, 31, 35)),
    (7.0, 512, (4, 6, 7), (18, 22, 26)),
    (8.0, 512, (4, 5, 6), (13, 16, 19)),
]


@pytest.mark.parametrize(("entropy", "window", "repetition", "proportion"), GOLDEN)
def test_cutoffs_are_exact(
    entropy: float, window: int, repetition: tuple[int, ...], proportion: tuple[int, ...]
) -> None:
    assert tuple(repetition_cutoff(entropy, alpha) for alpha in (20, 30, 40)) == repetition
    assert tuple(proportion_cutoff(entropy, alpha, window) for alpha in (20, 30, 40)) == proportion


@pytest.mark.parametrize(("bits", "entropy"), [(1, 0.9), (8, 7.0)])
def test_a_fair_source_raises_no_alarm_over_a_mebibyte(bits: int, entropy: float) -> None:
    tests, dice = HealthTests(bits, entropy, 40), random.Random(5)
    assert [tests.check(dice.randbytes(16_384)) for _ in range(64)] == [""] * 64


def test_a_run_is_found_at_its_cutoff_and_not_one_sample_earlier() -> None:
    cutoff = repetition_cutoff(0.9, 30)
    for length, alarm in ((cutoff - 1, ""), (cutoff, "repetition")):
        bits = "10" * 20 + "1" + "0" * length + "1" + "01" * 40
        bits = bits[: len(bits) // 8 * 8]
        assert HealthTests(1, 0.9, 30).check(int(bits, 2).to_bytes(len(bits) // 8, "big")) == alarm


@given(st.integers(1, 60), st.integers(0, 200))
def test_runs_and_windows_count_across_reads(cut: int, offset: int) -> None:
    dice = random.Random(offset)
    data = dice.randbytes(200) + bytes(12) + dice.randbytes(300)
    whole, parts = HealthTests(1, 0.9, 30), HealthTests(1, 0.9, 30)
    expected = whole.check(data)
    found = [parts.check(data[start : start + cut]) for start in range(0, len(data), cut)]
    assert expected == "repetition"
    assert "repetition" in found


def test_a_biased_source_falls_by_proportion() -> None:
    dice = random.Random(1)
    biased = bytes(dice.getrandbits(8) | dice.getrandbits(8) for _ in range(4096))
    assert HealthTests(1, 0.9, 40).check(biased) in ("proportion", "repetition")
    few_values = bytes(dice.choice((1, 2, 3, 4)) for _ in range(4096))
    assert HealthTests(8, 7.0, 30).check(few_values) in ("proportion", "repetition")


def test_only_samples_that_are_all_the_same_are_stuck() -> None:
    assert is_stuck(bytes(64))
    assert is_stuck(b"\xff" * 64)
    assert not is_stuck(bytes(63) + b"\x01")
    assert not is_stuck(b"\0")


def test_claims_that_cannot_be_are_refused() -> None:
    for bits, entropy in ((1, 1.1), (8, 0.0), (4, 1.0)):
        with pytest.raises(ValueError, match="samples"):
            HealthTests(bits, entropy, 30)
