"""Matrices of the gates of the flat circuit form (OpenQASM 3 standard library, arXiv:2104.14722).

First listed qubit most significant; complex128.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qedge_driver_api import Gate

Matrix = npt.NDArray[np.complex128]
_R: Final = math.sqrt(0.5)


def _array(rows: Any) -> Matrix:  # nested lists of numbers
    return np.array(rows, dtype=np.complex128)


_FIXED: Final[Mapping[int, Matrix]] = {
    Gate.ID: _array([[1, 0], [0, 1]]),
    Gate.X: _array([[0, 1], [1, 0]]),
    Gate.Y: _array([[0, -1j], [1j, 0]]),
    Gate.Z: _array([[1, 0], [0, -1]]),
    Gate.H: _array([[_R, _R], [_R, -_R]]),
    Gate.S: _array([[1, 0], [0, 1j]]),
    Gate.SDG: _array([[1, 0], [0, -1j]]),
    Gate.T: _array([[1, 0], [0, _R + 1j * _R]]),
    Gate.TDG: _array([[1, 0], [0, _R - 1j * _R]]),
    Gate.SX: _array([[0.5 + 0.5j, 0.5 - 0.5j], [0.5 - 0.5j, 0.5 + 0.5j]]),
    Gate.SXDG: _array([[0.5 - 0.5j, 0.5 + 0.5j], [0.5 + 0.5j, 0.5 - 0.5j]]),
    Gate.SWAP: _array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
    Gate.ISWAP: _array([[1, 0, 0, 0], [0, 0, 1j, 0], [0, 1j, 0, 0], [0, 0, 0, 1]]),
}


def _rx(angle: float) -> Matrix:
    c, s = math.cos(angle / 2), -1j * math.sin(angle / 2)
    return _array([[c, s], [s, c]])


def _ry(angle: float) -> Matrix:
    c, s = math.cos(angle / 2), math.sin(angle / 2)
    return _array([[c, -s], [s, c]])


def _rz(angle: float) -> Matrix:
    return np.diag([cmath.exp(-0.5j * angle), cmath.exp(0.5j * angle)]).astype(np.complex128)


def _p(angle: float) -> Matrix:
    return np.diag([1, cmath.exp(1j * angle)]).astype(np.complex128)


def _u(theta: float, phi: float, lam: float) -> Matrix:
    # OpenQASM 3 gives U a global phase that only a control can see
    return cmath.exp(0.5j * theta) * _u_special(theta, phi, lam)


def _u_special(theta: float, phi: float, lam: float) -> Matrix:
    c, s = math.cos(theta / 2), math.sin(theta / 2)
    return _array(
        [[c, -cmath.exp(1j * lam) * s], [cmath.exp(1j * phi) * s, cmath.exp(1j * (phi + lam)) * c]],
    )


def _cu(theta: float, phi: float, lam: float, gamma: float) -> Matrix:
    return controlled(cmath.exp(1j * gamma) * _u_special(theta, phi, lam), 1)


def _pauli_rotation(pauli: int, angle: float) -> Matrix:
    square = np.kron(_FIXED[pauli], _FIXED[pauli])
    return (math.cos(angle / 2) * np.eye(4) - 1j * math.sin(angle / 2) * square).astype(np.complex128)


def controlled(matrix: Matrix, controls: int) -> Matrix:
    """Return `matrix` under `controls` leading control qubits."""
    size = len(matrix) << controls
    out = np.eye(size, dtype=np.complex128)
    out[size - len(matrix) :, size - len(matrix) :] = matrix
    return out


_MADE: Final[Mapping[int, Callable[..., Matrix]]] = {
    Gate.GPHASE: lambda angle: _array([[cmath.exp(1j * angle)]]),
    Gate.RX: _rx,
    Gate.RY: _ry,
    Gate.RZ: _rz,
    Gate.P: _p,
    Gate.U: _u,
    Gate.CX: lambda: controlled(_FIXED[Gate.X], 1),
    Gate.CY: lambda: controlled(_FIXED[Gate.Y], 1),
    Gate.CZ: lambda: controlled(_FIXED[Gate.Z], 1),
    Gate.CH: lambda: controlled(_FIXED[Gate.H], 1),
    Gate.CP: lambda angle: controlled(_p(angle), 1),
    Gate.CRX: lambda angle: controlled(_rx(angle), 1),
    Gate.CRY: lambda angle: controlled(_ry(angle), 1),
    Gate.CRZ: lambda angle: controlled(_rz(angle), 1),
    Gate.CU: _cu,
    Gate.RXX: lambda angle: _pauli_rotation(Gate.X, angle),
    Gate.RYY: lambda angle: _pauli_rotation(Gate.Y, angle),
    Gate.RZZ: lambda angle: _pauli_rotation(Gate.Z, angle),
    Gate.CCX: lambda: controlled(_FIXED[Gate.X], 2),
    Gate.CCZ: lambda: controlled(_FIXED[Gate.Z], 2),
    Gate.CSWAP: lambda: controlled(_FIXED[Gate.SWAP], 1),
}


def gate_matrix(gate: int, params: tuple[float, ...]) -> Matrix:
    """Return the matrix of a unitary gate without added controls."""
    fixed = _FIXED.get(gate)
    return _MADE[gate](*params) if fixed is None else fixed
