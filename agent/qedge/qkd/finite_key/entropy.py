"""Entropies that the bounds are made of, in bits."""

from __future__ import annotations

import math


def binary_entropy(x: float) -> float:
    """Return h(x) = −x log2 x − (1−x) log2(1−x) for 0 ≤ x ≤ 1."""
    if not 0 < x < 1:
        return 0.0
    return -(x * math.log(x) + (1 - x) * math.log1p(-x)) / math.log(2)


def divergence(x: float, y: float) -> float:
    """Return x ln(x/y) + (1−x) ln((1−x)/(1−y)), in nats: how unlike coins of probabilities x and y are."""
    if y <= 0:
        return 0.0 if x <= 0 else math.inf
    if y >= 1:
        return 0.0 if x >= 1 else math.inf
    heads = x * _log_ratio(x, y, x - y) if x > 0 else 0.0
    tails = (1 - x) * _log_ratio(1 - x, 1 - y, y - x) if x < 1 else 0.0
    return max(0.0, heads + tails)


def _log_ratio(x: float, y: float, difference: float) -> float:
    """Return ln(x/y); by x − y where they are close, so that its digits are kept."""
    return -math.log1p(-difference / x) if y < 2 * x else math.log(x) - math.log(y)
