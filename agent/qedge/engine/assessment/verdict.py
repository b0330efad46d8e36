"""What the steps of an assessment come to, and whether a QPU is worse than it was. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.wire.assessment import Assessment

HEAVY: Final = 2 / 3
_SIGMAS: Final = 2.0
_LEAST_FIDELITY: Final = 0.05
_SLOW: Final = 0.5
_LATE: Final = 3.0
_ERROR_GROWTH: Final = 2.0


def passes_volume(heavy: Sequence[float]) -> bool:
    """Say whether the share of heavy outputs is above 2/3 by two standard errors (arXiv:1811.12926, eq. C3)."""
    mean = sum(heavy) / len(heavy)
    return mean - _SIGMAS * math.sqrt(mean * (1 - mean) / len(heavy)) > HEAVY


@dataclass(frozen=True, slots=True)
class Decay:
    """Average fidelity of one cycle on two qubits, with its standard error."""

    fidelity: float
    error: float


def fit_decay(depths: Sequence[int], seen: Sequence[Sequence[float]], ideal: Sequence[Sequence[float]]) -> Decay:
    """Fit A fᵈ to the cross-entropy fidelities at `depths`; returns 1 − (1 − f) 3/4 (arXiv:1910.11333, section IV).

    `seen` and `ideal` hold one number per circuit and depth. Depths whose fidelity is lost in noise are left out; with
    fewer than two left nothing is known and the fidelity is 0.
    """
    points: list[tuple[int, float, float]] = []
    for depth, got, best in zip(depths, seen, ideal, strict=True):
        total = sum(best)
        fidelity = sum(got) / total if total > 0 else 0.0
        spread = (
            math.sqrt(sum((g - fidelity * b) ** 2 for g, b in zip(got, best, strict=True))) / total if total else 1.0
        )
        if fidelity > _LEAST_FIDELITY:
            points.append((depth, math.log(fidelity), max(spread / fidelity, 1e-4)))
    if len(points) < 2:
        return Decay(0.0, 0.0)
    weights = [1 / sigma**2 for _, _, sigma in points]
    total = sum(weights)
    middle = sum(w * d for w, (d, _, _) in zip(weights, points, strict=True)) / total
    level = sum(w * y for w, (_, y, _) in zip(weights, points, strict=True)) / total
    width = sum(w * (d - middle) ** 2 for w, (d, _, _) in zip(weights, points, strict=True))
    slope = sum(w * (d - middle) * (y - level) for w, (d, y, _) in zip(weights, points, strict=True)) / width
    kept = math.exp(slope)
    return Decay(1 - (1 - min(1.0, kept)) * 0.75, 0.75 * kept / math.sqrt(width))


def best_of(known: Assessment | None, new: Assessment) -> Assessment:
    """Return the best figures seen; a figure that is 0 was not measured."""
    if known is None:
        return new
    highest = ("state_qubits", "log2_volume", "clops")
    changes: dict[str, float | int] = {name: max(getattr(known, name), getattr(new, name)) for name in highest}
    if known.cycle_fidelity > new.cycle_fidelity:
        changes |= {"cycle_fidelity": known.cycle_fidelity, "cycle_fidelity_error": known.cycle_fidelity_error}
    lowest = min((late for late in (known.decode_p99_us, new.decode_p99_us) if late), default=0.0)
    return msgspec.structs.replace(new, **changes, decode_p99_us=lowest, degraded=())


def worse_in(best: Assessment | None, new: Assessment, *, loaded: bool) -> tuple[str, ...]:
    """Say in what a QPU is clearly worse than at its best; `loaded`: the host is too busy to judge speed."""
    if best is None:
        return ()
    found: list[str] = []
    if 0 < new.state_qubits <= best.state_qubits - 2:
        found.append(f"{new.state_qubits} qubits fit into memory, it were {best.state_qubits}")
    # the limit of a width is a matter of luck by one
    if 0 < new.log2_volume <= best.log2_volume - 2:
        found.append(f"log2 of the quantum volume is {new.log2_volume}, it was {best.log2_volume}")
    error, least = 1 - new.cycle_fidelity, 1 - best.cycle_fidelity
    sure = 3 * math.hypot(new.cycle_fidelity_error, best.cycle_fidelity_error)
    if new.cycle_fidelity and best.cycle_fidelity and error > _ERROR_GROWTH * least + sure:
        found.append(f"the fidelity of a cycle is {new.cycle_fidelity:.4f}, it was {best.cycle_fidelity:.4f}")
    if not loaded and 0 < new.clops < _SLOW * best.clops:
        found.append(f"{new.clops:.3g} layers a second, it were {best.clops:.3g}")
    if not loaded and best.decode_p99_us and new.decode_p99_us > _LATE * best.decode_p99_us:
        found.append(f"decoding takes {new.decode_p99_us:.0f} µs, it was {best.decode_p99_us:.0f}")
    return tuple(found)
