"""Gates as chains of small tensors, one per qubit: how a matrix product state takes a gate without a dense matrix.

A factor has the shape (left bond, out, in, right bond), complex128; the first left and the last right bond are 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.dense import op_matrix
from qedge_drivers.sim_qpu.gates import Matrix, gate_matrix

Factor = npt.NDArray[np.complex128]
_MAX_DENSE: Final = 4
"""A controlled gate on more qubits is split without ever being a matrix."""
_NEGLIGIBLE: Final = 1e-13


def gate_factors(op: Op, sites: Sequence[int]) -> list[tuple[int, Factor]]:
    """Return `(site, factor)` for each qubit of a unitary operation in the order of the sites.

    `sites[i]` is where the i-th listed qubit of the operation stands.
    """
    order = tuple(sorted(range(len(sites)), key=lambda index: sites[index]))
    gate, _, params, controls = op
    factors = _factors(gate, params, controls, order)
    return [(sites[index], factor) for index, factor in zip(order, factors, strict=True)]


@lru_cache(maxsize=4096)
def _factors(gate: int, params: tuple[float, ...], controls: int, order: tuple[int, ...]) -> tuple[Factor, ...]:
    if len(order) <= _MAX_DENSE:
        return split(op_matrix((gate, tuple(range(len(order))), params, controls)), order)
    return _controlled(gate_matrix(gate, params), controls, order)


def split(matrix: Matrix, order: Sequence[int]) -> tuple[Factor, ...]:
    """Split a matrix on k qubits (first one most significant) into factors of the qubits in this order."""
    k = len(order)
    axes = [axis for index in order for axis in (index, k + index)]
    rest = matrix.reshape((2,) * (2 * k)).transpose(axes).reshape(1, -1)
    factors: list[Factor] = []
    for _ in range(k - 1):
        left = rest.shape[0]
        u, s, v = np.linalg.svd(rest.reshape(left * 4, -1), full_matrices=False)
        rank = max(1, int(np.count_nonzero(s > _NEGLIGIBLE * s[0])))
        factors.append(u[:, :rank].reshape(left, 2, 2, rank))
        rest = s[:rank, None] * v[:rank]
    factors.append(rest.reshape(-1, 2, 2, 1))
    return tuple(factors)


def _controlled(matrix: Matrix, controls: int, order: Sequence[int]) -> tuple[Factor, ...]:
    """Split 1 + P ⊗ (U − 1), where P projects all controls on 1: two chains side by side."""
    own = [index for index in order if index >= controls]
    change = matrix - np.eye(len(matrix))
    inner = dict(zip(own, split(change, [index - controls for index in own]), strict=True)) if own else {}
    projector = np.diag([0.0, 1.0]).astype(np.complex128)
    chain: list[Factor] = []
    bond = 1
    for index in order:
        if index in inner:
            chain.append(inner[index])
            bond = inner[index].shape[3]
        else:
            chain.append(np.einsum("ab,oi->aoib", np.eye(bond), projector))
    if not own:
        chain[0] = chain[0] * change[0, 0]
    identity = np.eye(2, dtype=np.complex128).reshape(1, 2, 2, 1)
    last = len(chain) - 1
    return tuple(_beside(identity, factor, first=place == 0, last=place == last) for place, factor in enumerate(chain))


def _beside(one: Factor, other: Factor, *, first: bool, last: bool) -> Factor:
    """Put two factors into one, so that their chains are added."""
    if first:
        return np.concatenate([one, other], axis=3)
    if last:
        return np.concatenate([one, other], axis=0)
    out = np.zeros((1 + other.shape[0], 2, 2, 1 + other.shape[3]), dtype=np.complex128)
    out[:1, :, :, :1] = one
    out[1:, :, :, 1:] = other
    return out
