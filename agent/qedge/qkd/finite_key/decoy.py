"""What counts at several intensities say about pulses of no photon and of one photon.

Each function belongs to one proof and is not to be mixed with the other's key length: `two_decoys` to Lim et al. 2014
(arXiv:1311.7129, eqs. 2 to 4), `one_decoy` to Rusca et al. 2018 (Appl. Phys. Lett. 112, 171104, eqs. A16 to A22; A18 as
printed lacks e^k/p_k).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qedge.qkd.finite_key.model import BasisCounts, Counts, DecoyProtocol, Estimate


@dataclass(frozen=True, slots=True)
class DecoyBounds:
    """Bounds of numbers of detections, none below 0, none but the last above the detections of its basis.

    `vacuum` and `single`: at least so many of the key basis came from pulses of no and of one photon.
    `test_single`: the same of one photon in the test basis. `test_single_errors`: at most so many errors of the
    test basis came from them.
    """

    vacuum: float
    single: float
    test_single: float
    test_single_errors: float


def two_decoys(protocol: DecoyProtocol, counts: Counts, nats: float, estimate: Estimate) -> DecoyBounds:
    """Bound with intensities μ1 > μ2 + μ3, μ2 > μ3; `nats` = ln(21/ε_sec), 0 for an infinite block."""
    vacuum, single = _two_decoy_basis(protocol, counts.key, nats)
    _, test_single = _two_decoy_basis(protocol, counts.test, nats)
    return DecoyBounds(vacuum, single, test_single, _single_errors(protocol, counts.test, nats, estimate))


def _two_decoy_basis(protocol: DecoyProtocol, basis: BasisCounts, nats: float) -> tuple[float, float]:
    high, middle, low = protocol.mean_photon_numbers
    w1, w2, w3 = protocol.weights
    n1, n2, n3 = basis.detections
    deviation = _deviation(basis.total, nats)
    n1_up, n2_up, n3_up = w1 * (n1 + deviation), w2 * (n2 + deviation), w3 * (n3 + deviation)
    n2_low, n3_low = w2 * (n2 - deviation), w3 * (n3 - deviation)
    tau0, tau1 = protocol.vacuum_share, protocol.single_share
    vacuum = _within(tau0 * (middle * n3_low - low * n2_up) / (middle - low), basis.total)
    multi = (middle**2 - low**2) / high**2 * (n1_up - vacuum / tau0)
    single = tau1 * high * (n2_low - n3_up - multi) / (high * (middle - low) - middle**2 + low**2)
    return vacuum, _within(single, basis.total - vacuum)


def one_decoy(protocol: DecoyProtocol, counts: Counts, nats: float, estimate: Estimate) -> DecoyBounds:
    """Bound with intensities μ1 > μ2 > 0; `nats` = ln(19/ε_sec), 0 for an infinite block."""
    vacuum, single = _one_decoy_basis(protocol, counts.key, nats)
    _, test_single = _one_decoy_basis(protocol, counts.test, nats)
    return DecoyBounds(vacuum, single, test_single, _single_errors(protocol, counts.test, nats, estimate))


def _one_decoy_basis(protocol: DecoyProtocol, basis: BasisCounts, nats: float) -> tuple[float, float]:
    high, low = protocol.mean_photon_numbers
    weights = w1, w2 = protocol.weights
    n1, n2 = basis.detections
    deviation, error_deviation = _deviation(basis.total, nats), _deviation(basis.wrong, nats)
    n1_up, n2_low = w1 * (n1 + deviation), w2 * (n2 - deviation)
    tau0, tau1 = protocol.vacuum_share, protocol.single_share
    # Half of what comes without a photon is wrong: the errors say how much it can be at most.
    most_vacuum = 2 * (
        tau0 * min(w * (m + error_deviation) for w, m in zip(weights, basis.errors, strict=True)) + deviation
    )
    vacuum = _within(tau0 * (high * n2_low - low * n1_up) / (high - low), basis.total)
    multi = (low / high) ** 2 * n1_up + (high**2 - low**2) / high**2 * most_vacuum / tau0
    single = tau1 * high * (n2_low - multi) / (low * (high - low))
    return vacuum, _within(single, basis.total - vacuum)


def _single_errors(protocol: DecoyProtocol, test: BasisCounts, nats: float, estimate: Estimate) -> float:
    """Bound v_1 by the two weakest intensities; strictly a mean is not negative, nor are there more than all errors."""
    more, less = protocol.mean_photon_numbers[-2:]
    w_more, w_less = protocol.weights[-2:]
    m_more, m_less = test.errors[-2:]
    deviation = _deviation(test.wrong, nats)
    upper, lower = w_more * (m_more + deviation), w_less * (m_less - deviation)
    if estimate is Estimate.PUBLISHED:
        return max(0.0, protocol.single_share * (upper - lower) / (more - less))
    return _within(protocol.single_share * (upper - max(0.0, lower)) / (more - less), test.wrong)


def _deviation(total: float, nats: float) -> float:
    """Hoeffding: how far the count of an intensity is from its mean, given `total` detections (or errors) in all."""
    return math.sqrt(total / 2 * nats)


def _within(value: float, most: float) -> float:
    return min(max(value, 0.0), max(most, 0.0))
