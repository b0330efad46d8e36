"""Matrices of one qubit and their decompositions, all up to a global phase unless it says otherwise. Pure.

A matrix is `(a, b, c, d)` for [[a, b], [c, d]].
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from qedge_driver_api import Gate

Matrix = tuple[complex, complex, complex, complex]
Turn = tuple[str, tuple[float, ...]]
"""A gate of a device on one qubit: its name and its angles."""

_TINY: Final = 1e-12
_R2: Final = math.sqrt(0.5)
IDENTITY: Final[Matrix] = (1, 0, 0, 1)
PLAIN: Final[Mapping[int, Matrix]] = {
    Gate.ID: IDENTITY,
    Gate.X: (0, 1, 1, 0),
    Gate.Y: (0, -1j, 1j, 0),
    Gate.Z: (1, 0, 0, -1),
    Gate.H: (_R2, _R2, _R2, -_R2),
    Gate.S: (1, 0, 0, 1j),
    Gate.SDG: (1, 0, 0, -1j),
    Gate.T: (1, 0, 0, cmath.exp(0.25j * math.pi)),
    Gate.TDG: (1, 0, 0, cmath.exp(-0.25j * math.pi)),
    Gate.SX: (0.5 + 0.5j, 0.5 - 0.5j, 0.5 - 0.5j, 0.5 + 0.5j),
    Gate.SXDG: (0.5 - 0.5j, 0.5 + 0.5j, 0.5 + 0.5j, 0.5 - 0.5j),
}


def rotation(axis: int, angle: float) -> Matrix:
    """Return the matrix of `Gate.RX`, `RY` or `RZ`."""
    c, s = math.cos(angle / 2), math.sin(angle / 2)
    if axis == Gate.RX:
        return (c, -1j * s, -1j * s, c)
    if axis == Gate.RY:
        return (c, -s, s, c)
    return (complex(c, -s), 0, 0, complex(c, s))


def matrix_of(gate: int, params: tuple[float, ...]) -> Matrix:
    """Return the matrix of a gate on one qubit, its phase included."""
    if gate in PLAIN:
        return PLAIN[gate]
    if gate == Gate.P:
        return (1, 0, 0, cmath.exp(1j * params[0]))
    if gate != Gate.U:
        return rotation(gate, params[0])
    theta, phi, lam = params
    phase, c, s = cmath.exp(0.5j * theta), math.cos(theta / 2), math.sin(theta / 2)
    return (
        phase * c,
        -phase * cmath.exp(1j * lam) * s,
        phase * cmath.exp(1j * phi) * s,
        phase * cmath.exp(1j * (phi + lam)) * c,
    )


def multiply(left: Matrix, right: Matrix) -> Matrix:
    """Return the product; the right one acts first."""
    a, b, c, d = left
    e, f, g, h = right
    return (a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h)


def adjoint(matrix: Matrix) -> Matrix:
    """Return the inverse of a unitary matrix."""
    a, b, c, d = matrix
    return (a.conjugate(), c.conjugate(), b.conjugate(), d.conjugate())


def root(matrix: Matrix) -> Matrix:
    """Return a unitary whose square is the given one (Cayley and Hamilton: √M = (M + √det)/√(tr + 2√det))."""
    a, b, c, d = matrix
    s = cmath.sqrt(a * d - b * c)
    if abs(a + d + 2 * s) < abs(a + d - 2 * s):
        s = -s
    t = cmath.sqrt(a + d + 2 * s)
    return ((a + s) / t, b / t, c / t, (d + s) / t)


def euler(matrix: Matrix) -> tuple[float, float, float, float]:
    """Return (α, β, γ, δ) with M = e^{iα} Rz(β) Ry(γ) Rz(δ), phase included."""
    a, b, c, d = matrix
    alpha = cmath.phase(a * d - b * c) / 2
    gamma = 2 * math.atan2(abs(c), abs(a))
    total = 2 * (cmath.phase(d) - alpha) if abs(d) > _TINY else 0.0
    difference = 2 * (cmath.phase(c) - alpha) if abs(c) > _TINY else 0.0
    return alpha, (total + difference) / 2, gamma, (total - difference) / 2


def angles(matrix: Matrix) -> tuple[float, float, float]:
    """Return (θ, φ, λ) of `Gate.U`."""
    _, beta, gamma, delta = euler(matrix)
    return gamma, beta, delta


def is_identity(matrix: Matrix) -> bool:
    """Tell whether nothing but a phase is left."""
    a, b, c, d = matrix
    return abs(b) < _TINY and abs(c) < _TINY and abs(a - d) < _TINY


def _by_u(name: str) -> Callable[[Matrix], Iterator[Turn]]:
    def turns(matrix: Matrix) -> Iterator[Turn]:
        yield name, angles(matrix)

    return turns


def _by_sx(matrix: Matrix) -> Iterator[Turn]:
    """Write Rz(φ+π) √X Rz(θ+π) √X Rz(λ), or a single Rz (McKay et al., arXiv:1612.00858, equation 2)."""
    theta, phi, lam = angles(matrix)
    if abs(theta) < _TINY:
        yield from _nonzero("rz", phi + lam)
        return
    yield from _nonzero("rz", lam)
    yield "sx", ()
    yield from _nonzero("rz", theta + math.pi)
    yield "sx", ()
    yield from _nonzero("rz", phi + math.pi)


def _by_ry(matrix: Matrix) -> Iterator[Turn]:
    theta, phi, lam = angles(matrix)
    if abs(theta) < _TINY:
        yield from _nonzero("rz", phi + lam)
        return
    yield from _nonzero("rz", lam)
    yield "ry", (theta,)
    yield from _nonzero("rz", phi)


def _by_rx(matrix: Matrix) -> Iterator[Turn]:
    theta, phi, lam = angles(matrix)
    if abs(theta) < _TINY:
        yield from _nonzero("rz", phi + lam)
        return
    yield from _nonzero("rz", lam - math.pi / 2)
    yield "rx", (theta,)
    yield from _nonzero("rz", phi + math.pi / 2)


def _nonzero(name: str, angle: float) -> Iterator[Turn]:
    angle = math.remainder(angle, 2 * math.pi)
    if abs(angle) > _TINY:
        yield name, (angle,)


def _by_r(name: str) -> Callable[[Matrix], Iterator[Turn]]:
    """Write at most two rotations about axes in the plane: R(π, ψ) after R(θ, φ).

    M without a Z part is one. Otherwise ψ is the direction of M's part in the plane: R(−π, ψ) M then has no Z part.
    """

    def turns(matrix: Matrix) -> Iterator[Turn]:
        a, b, c, d = matrix
        phase = cmath.exp(-0.5j * cmath.phase(a * d - b * c))
        u0, uz = (phase * (a + d) / 2).real, (1j * phase * (a - d) / 2).real
        ux, uy = (1j * phase * (b + c) / 2).real, (phase * (c - b) / 2).real
        plane = math.hypot(ux, uy)
        if abs(uz) < _TINY:
            yield name, (2 * math.atan2(plane, u0), math.atan2(uy, ux))
            return
        psi = math.atan2(uy, ux)
        x, y = u0 * math.cos(psi) + uz * math.sin(psi), u0 * math.sin(psi) - uz * math.cos(psi)
        # R(−π, ψ) M = plane·1 + i (x X + y Y), so the axis points the other way
        yield name, (2 * math.atan2(math.hypot(x, y), plane), math.atan2(-y, -x))
        yield name, (math.pi, psi)

    return turns


def basis(names: frozenset[str]) -> Callable[[Matrix], Iterator[Turn]] | None:
    """Return how to write any turn with the gates of a device, first gate first; None where they do not suffice."""
    for name in ("u3", "u"):
        if name in names:
            return _by_u(name)
    if "rz" in names:
        for other, made in (("sx", _by_sx), ("ry", _by_ry), ("rx", _by_rx)):
            if other in names:
                return made
    for name in ("r", "prx"):
        if name in names:
            return _by_r(name)
    return None
