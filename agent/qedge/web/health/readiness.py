"""Readiness is freshness: a node is ready while nothing it says is missing and every sign of life moved lately."""

from __future__ import annotations

from collections.abc import Sequence

from qedge.web.health.ports import Pulse
from qedge.wire.http import Readiness


def readiness(not_ready: Sequence[str], pulses: Sequence[Pulse]) -> Readiness:
    """Judge the node: `not_ready` names what the node itself misses, `pulses` are its signs of life."""
    reasons = [f"waiting for {name}" for name in not_ready]
    for pulse in pulses:
        if pulse.age_s < 0:
            reasons.append(f"{pulse.name} has not moved yet")
        elif not pulse.age_s <= pulse.limit_s:  # written so that NaN counts as stale
            reasons.append(f"{pulse.name} last moved {pulse.age_s:.1f} s ago, limit {pulse.limit_s:.1f} s")
    return Readiness(
        ready=not reasons,
        reasons=tuple(reasons),
        ages_s={pulse.name: round(pulse.age_s, 3) for pulse in pulses},
    )
