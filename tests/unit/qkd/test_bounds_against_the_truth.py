"""The bounds beside what really happened, in blocks of which photon numbers are known, with and without an attack."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from qedge.qkd.finite_key.length import key_length
from qedge.qkd.finite_key.model import BasisCounts, Counts, DecoyProtocol, EpsilonBudget, Estimate

TWO = DecoyProtocol((0.5, 0.22, 1e-3), (0.35, 0.45, 0.2), 0.85, 0.85)
ONE = DecoyProtocol((0.5, 0.15), (0.6, 0.4), 0.85, 0.85)
PHOTONS = np.arange(12)
PULSES = 2e8
LOOSE = EpsilonBudget(1e-3, 1e-6, 1e-6)
"""Secrecy so weak that bounds that are off by a factor in their exponent would be caught in some hundred blocks."""


def fibre(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loss and dark counts: yield and error rate of each photon number."""
    eta, dark = 0.1, 1e-5
    seen = 1 - (1 - eta) ** numbers
    gains = dark + seen * (1 - dark)
    return gains, (dark / 2 + 0.01 * seen) / gains


def splitter(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Somebody keeps a photon of each pulse of several, lets all of the rest pass, and blocks most single photons."""
    gains = np.where(numbers == 0, 1e-5, np.where(numbers == 1, 0.02, 0.6))
    return gains, np.where(numbers == 0, 0.5, np.where(numbers == 1, 0.05, 0.005))


def flood(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Light from outside: much without a photon of Alice's."""
    gains, errors = fibre(numbers)
    return gains + 0.02 * (1 - gains), (gains * errors + 0.01 * (1 - gains)) / (gains + 0.02 * (1 - gains))


def block(
    dice: np.random.Generator, protocol: DecoyProtocol, channel: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> tuple[Counts, dict[str, float]]:
    """Draw counts by intensity and photon number; return what the ends see, and the truth."""
    gains, rates = channel(PHOTONS)
    means = np.array(protocol.mean_photon_numbers)[:, None]
    law = np.exp(-means) * means**PHOTONS / np.array([math.factorial(n) for n in PHOTONS], float)
    sent = PULSES * np.array(protocol.intensity_probabilities)[:, None] * law
    z = protocol.z_probability_alice
    seen, truth = [], {}
    for name, share in (("key", z * z), ("test", (1 - z) ** 2)):
        detections = dice.poisson(sent * share * gains)
        errors = dice.binomial(detections, rates)
        seen.append(BasisCounts(tuple(map(int, detections.sum(1))), tuple(map(int, errors.sum(1)))))
        truth |= {
            f"{name} vacuum": detections[:, 0].sum(),
            f"{name} single": detections[:, 1].sum(),
            f"{name} errors": errors[:, 1].sum(),
        }
    # Phase errors of the key are what its single photons would have shown in the test basis.
    truth["phase"] = dice.binomial(truth["key single"], rates[1]) / max(1, truth["key single"])
    return Counts(*seen), truth


@pytest.mark.parametrize("channel", [fibre, splitter, flood])
@pytest.mark.parametrize("protocol", [TWO, ONE], ids=["two decoys", "one decoy"])
def test_bounds_hold_of_what_really_happened(
    protocol: DecoyProtocol, channel: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> None:
    dice = np.random.default_rng(20)
    missed = 0
    for _ in range(150):
        counts, truth = block(dice, protocol, channel)
        found = key_length(protocol, counts, 0, LOOSE, estimate=Estimate.STRICT)
        missed += not (
            found.vacuum <= truth["key vacuum"]
            and found.single <= truth["key single"]
            and found.test_single <= truth["test single"]
            and found.test_single_errors >= truth["test errors"]
            and found.phase_error >= min(0.5, truth["phase"])
        )
        assert found.bits <= truth["key vacuum"] + truth["key single"]
    assert missed == 0  # 0.15 are allowed in the mean


def test_the_bounds_are_not_far_from_the_truth_in_long_blocks() -> None:
    dice = np.random.default_rng(21)
    counts, truth = block(dice, TWO, fibre)
    found = key_length(TWO, counts, 0, EpsilonBudget())
    assert found.single > 0.85 * truth["key single"]
    assert found.phase_error < 3 * truth["phase"] + 0.02
