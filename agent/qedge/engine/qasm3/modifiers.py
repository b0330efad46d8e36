"""Modifiers of gates on lists of flat operations: inverse, power, control.

Global phases are kept, as a control sees them.
Matrices are those of the flat form (`qedge_driver_api.circuit`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op

_SELF_INVERSE: Final = frozenset(
    (
        Gate.ID,
        Gate.X,
        Gate.Y,
        Gate.Z,
        Gate.H,
        Gate.CX,
        Gate.CY,
        Gate.CZ,
        Gate.CH,
        Gate.SWAP,
        Gate.CCX,
        Gate.CCZ,
        Gate.CSWAP,
        Gate.BARRIER,
    )
)
_PAIRS: Final = {
    Gate.S: Gate.SDG,
    Gate.SDG: Gate.S,
    Gate.T: Gate.TDG,
    Gate.TDG: Gate.T,
    Gate.SX: Gate.SXDG,
    Gate.SXDG: Gate.SX,
}
_ROTATIONS: Final = frozenset(
    (
        Gate.GPHASE,
        Gate.RX,
        Gate.RY,
        Gate.RZ,
        Gate.P,
        Gate.CP,
        Gate.CRX,
        Gate.CRY,
        Gate.CRZ,
        Gate.RXX,
        Gate.RYY,
        Gate.RZZ,
    )
)
"""Gates exp(i·angle·G) of one angle."""
_Z_ANGLES: Final = {
    Gate.ID: 0.0,
    Gate.Z: math.pi,
    Gate.S: math.pi / 2,
    Gate.SDG: -math.pi / 2,
    Gate.T: math.pi / 4,
    Gate.TDG: -math.pi / 4,
}
_X_ANGLES: Final = {Gate.X: math.pi, Gate.SX: math.pi / 2, Gate.SXDG: -math.pi / 2}
_CONTROLLED: Final = {
    Gate.CX: (Gate.X, 1),
    Gate.CY: (Gate.Y, 1),
    Gate.CZ: (Gate.Z, 1),
    Gate.CH: (Gate.H, 1),
    Gate.CCX: (Gate.X, 2),
    Gate.CCZ: (Gate.Z, 2),
    Gate.CSWAP: (Gate.SWAP, 1),
}
_TURN: Final = 2 * math.pi


class NoPowerError(ValueError):
    """A gate has no fractional power here."""


def inverse(op: Op) -> list[Op]:
    """Return the inverse of one operation."""
    gate, qubits, params, arg = op
    kind = Gate(gate)
    if kind in _SELF_INVERSE:
        return [op]
    if kind in _PAIRS:
        return [(int(_PAIRS[kind]), qubits, (), arg)]
    if kind in _ROTATIONS:
        return [(gate, qubits, (-params[0],), arg)]
    if kind == Gate.U:
        theta, phi, lam = params
        return [(gate, qubits, (-theta, -lam, -phi), arg)]
    if kind == Gate.CU:
        theta, phi, lam, gamma = params
        return [(gate, qubits, (-theta, -lam, -phi, -gamma), arg)]
    # iSWAP = exp(iπ/4·(XX + YY))
    return [(int(Gate.RXX), qubits, (math.pi / 2,), arg), (int(Gate.RYY), qubits, (math.pi / 2,), arg)]


def inverted(ops: Sequence[Op]) -> list[Op]:
    """Return the inverse of a list of operations."""
    return [each for op in reversed(ops) for each in inverse(op)]


def powered(ops: Sequence[Op], exponent: float) -> list[Op]:
    """Return the power of a list of operations; the principal one where the exponent is no whole number.

    Raises `NoPowerError` for a fractional power of more than one operation, or of a gate without one.
    """
    if float(exponent).is_integer():
        times = int(exponent)
        base = list(ops) if times >= 0 else inverted(ops)
        if len(base) == 1 and Gate(base[0][0]) in _ROTATIONS:
            gate, qubits, params, arg = base[0]
            return [(gate, qubits, (params[0] * abs(times),), arg)] if times else []
        return base * abs(times)
    if len(ops) != 1:
        raise NoPowerError("a fractional power of a gate of several operations")
    return _fraction(ops[0], exponent)


def _fraction(op: Op, exponent: float) -> list[Op]:
    gate, qubits, params, arg = op
    kind = Gate(gate)
    if kind in _CONTROLLED:
        plain, controls = _CONTROLLED[kind]
        return _fraction((int(plain), qubits, params, arg + controls), exponent)
    if kind in _ROTATIONS:
        period = 2 * _TURN if kind not in (Gate.GPHASE, Gate.P, Gate.CP) else _TURN
        angle = math.remainder(params[0], period)
        if period > _TURN and abs(angle) > math.pi:
            # beyond half a turn the principal power has another global phase
            raise NoPowerError(f"a fractional power of {kind.name} by more than half a turn")
        return [(gate, qubits, (angle * exponent,), arg)]
    p, h = int(Gate.P), (int(Gate.H), qubits[arg:], (), 0)
    if kind in _Z_ANGLES:
        return [(p, qubits, (_Z_ANGLES[kind] * exponent,), arg)]
    if kind in _X_ANGLES:
        return [h, (p, qubits, (_X_ANGLES[kind] * exponent,), arg), h]
    own = qubits[arg:]
    if kind == Gate.Y:
        # Y = S·X·S†
        inside = _fraction((int(Gate.X), qubits, (), arg), exponent)
        return [(int(Gate.SDG), own, (), 0), *inside, (int(Gate.S), own, (), 0)]
    if kind == Gate.H:
        # H = Ry(π/4)·Z·Ry(−π/4)
        ry, quarter = int(Gate.RY), math.pi / 4
        return [(ry, own, (-quarter,), 0), (p, qubits, (math.pi * exponent,), arg), (ry, own, (quarter,), 0)]
    if kind == Gate.SWAP:
        # SWAP = CX(a,b)·CX(b,a)·CX(a,b): its power is that of the inner one
        first, second = own
        outer = (int(Gate.CX), (first, second), (), 0)
        inner = _fraction((int(Gate.X), (*qubits[:arg], second, first), (), arg + 1), exponent)
        return [outer, *inner, outer]
    raise NoPowerError(f"a fractional power of {kind.name}")


def controlled(ops: Sequence[Op], controls: tuple[int, ...], *, on_zero: bool = False) -> list[Op]:
    """Return operations under `controls`; `on_zero`: they happen where all controls are 0."""
    out: list[Op] = []
    flips: list[Op] = [(int(Gate.X), (qubit,), (), 0) for qubit in controls] if on_zero else []
    out += flips
    for gate, qubits, params, arg in ops:
        if gate == Gate.GPHASE:
            # e^{iγ} under controls is a phase of the last of them
            out.append((int(Gate.P), controls + qubits, params, len(controls) + arg - 1))
        elif gate == Gate.BARRIER:
            out.append((gate, qubits, params, arg))
        else:
            out.append((gate, controls + qubits, params, arg + len(controls)))
    return out + flips
