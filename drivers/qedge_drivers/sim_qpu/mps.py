"""Matrix product states (Vidal, Phys. Rev. Lett. 91, 147902): wide circuits whose entanglement stays small.

A site is a tensor (left bond, 2, right bond), complex128. Gates are applied as they are, whatever distance they span,
and bonds grow without being cut until one of them is worth the work; sites left of the window are left-orthonormal,
sites right of it right-orthonormal, so that cutting inside the window is optimal (Schollwöck, Ann. Phys. 326, 96,
section 4.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from qedge_drivers.sim_qpu.branching import CancelledError
from qedge_drivers.sim_qpu.gates import Matrix
from qedge_drivers.sim_qpu.mpo import Factor

FREE_BOND: Final = 16
"""Bonds up to this are never cut: it would take longer than it saves."""
_CUTOFF: Final = 1e-15
"""Weight below which a part of the state is rounding, not state."""
SAMPLE_BYTES: Final = 32 << 20


class MatrixProduct:
    """A state of `num_sites` qubits that begins in |0…0⟩; no bond is kept above `max_bond`.

    `discarded_weight` sums what cuts took away, `fidelity_bound` is the product of what each of them left: an
    estimate of |⟨exact|this⟩|² that is exact while single cuts are small.
    """

    def __init__(self, num_sites: int, max_bond: int, cancelled: Callable[[], bool]) -> None:
        zero = np.array([1, 0], dtype=np.complex128).reshape(1, 2, 1)
        self._sites: list[npt.NDArray[np.complex128]] = [zero] * num_sites
        self._waiting: list[Matrix | None] = [None] * num_sites
        self._settled = [1] * num_sites
        self._low, self._high = num_sites, -1
        self._max_bond = max_bond
        self._cancelled = cancelled
        self.discarded_weight = 0.0
        self.fidelity_bound = 1.0
        self.largest_bond = 1

    def turn(self, site: int, matrix: Matrix) -> None:
        """Apply a gate on one qubit; it waits until something needs its result."""
        waiting = self._waiting[site]
        self._waiting[site] = matrix if waiting is None else matrix @ waiting

    def apply(self, factors: Sequence[tuple[int, Factor]]) -> None:
        """Apply a gate on several qubits, given as `(site, factor)` in the order of the sites."""
        at = dict(factors)
        low, high = factors[0][0], factors[-1][0]
        bond, widest = 1, False
        for site in range(low, high + 1):
            factor = at.get(site)
            if factor is None:
                self._sites[site] = _pass_on(self._sites[site], bond)
            else:
                tensor = self._settle(site)
                grown = np.tensordot(tensor, factor, axes=(1, 2)).transpose(0, 2, 3, 1, 4)
                self._sites[site] = grown.reshape(tensor.shape[0] * factor.shape[0], 2, -1)
                bond = factor.shape[3]
            if site < high:
                widest |= self._sites[site].shape[2] > max(FREE_BOND, 2 * self._settled[site])
        self._low, self._high = min(self._low, low), max(self._high, high)
        if widest:
            self.compress()

    def _settle(self, site: int) -> npt.NDArray[np.complex128]:
        tensor, waiting = self._sites[site], self._waiting[site]
        if waiting is not None:
            tensor = self._sites[site] = np.matmul(waiting, tensor)
            self._waiting[site] = None
        return tensor

    def compress(self) -> None:
        """Bring every bond of the window to its rank, or to `max_bond`, and note what that takes away."""
        low, high = self._low, self._high
        self._orthonormalise(low, high)
        for site in range(low, high):
            if self._cancelled():
                raise CancelledError
            tensor = self._sites[site]
            left = tensor.shape[0]
            u, s, v = _svd(tensor.reshape(left * 2, -1))
            weights = np.square(s)
            total = float(weights.sum())
            tail = np.cumsum(weights[::-1])[::-1]
            rank = max(1, min(int(np.count_nonzero(tail > _CUTOFF * total)), self._max_bond))
            lost = float(tail[rank]) / total if rank < len(s) else 0.0
            if lost > _CUTOFF:
                self.discarded_weight += lost
                self.fidelity_bound *= 1 - lost
            kept = s[:rank] / np.sqrt(float(weights[:rank].sum()))
            self._sites[site] = u[:, :rank].reshape(left, 2, rank)
            self._sites[site + 1] = np.tensordot(kept[:, None] * v[:rank], self._sites[site + 1], axes=1)
            self._settled[site] = rank
            self.largest_bond = max(self.largest_bond, rank)
        self._low = self._high = high

    def _orthonormalise(self, low: int, high: int) -> None:
        """Make the sites above `low` up to `high` right-orthonormal."""
        for site in range(high, low, -1):
            tensor = self._sites[site]
            q, r = np.linalg.qr(tensor.reshape(tensor.shape[0], -1).T)
            self._sites[site] = q.T.reshape(-1, 2, tensor.shape[2])
            self._sites[site - 1] = np.tensordot(self._sites[site - 1], r, axes=(2, 1))

    def finish(self) -> None:
        """Make everything right of the first site right-orthonormal, cutting only where a bond is above `max_bond`."""
        for site in range(len(self._sites)):
            self._settle(site)
        if any(tensor.shape[2] > self._max_bond for tensor in self._sites):
            self.compress()
        self._orthonormalise(0, max(self._high, 0))
        self._low = self._high = 0
        first = self._sites[0]
        self._sites[0] = first / np.linalg.norm(first)
        self.largest_bond = max(self.largest_bond, *(tensor.shape[2] for tensor in self._sites))

    def sample(self, shots: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Draw `shots` outcomes of all qubits, independent of each other; call `finish` first. One row per shot."""
        widest = max(tensor.shape[2] for tensor in self._sites)
        chunk = max(1, SAMPLE_BYTES // (32 * widest))
        parts = [self._sample(min(chunk, shots - start), rng) for start in range(0, shots, chunk)]
        return np.concatenate(parts)

    def _sample(self, shots: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        if self._cancelled():
            raise CancelledError
        rows = np.zeros((shots, len(self._sites)), dtype=np.bool_)
        left = np.ones((shots, 1), dtype=np.complex128)
        for site, tensor in enumerate(self._sites):
            both = (left @ tensor.reshape(tensor.shape[0], -1)).reshape(shots, 2, -1)
            weights = np.einsum("sbr,sbr->sb", both.real, both.real) + np.einsum("sbr,sbr->sb", both.imag, both.imag)
            ones = rng.random(shots) * weights.sum(axis=1) < weights[:, 1]
            rows[:, site] = ones
            drawn = ones.astype(np.intp)
            every = np.arange(shots)
            left = both[every, drawn] / np.sqrt(weights[every, drawn])[:, None]
        return rows

    def expectation(self, matrices: Mapping[int, Matrix]) -> float:
        """Return the value of a product of Hermitian matrices, by site; call `finish` first."""
        left = np.ones((1, 1), dtype=np.complex128)
        for site in range(max(matrices, default=-1) + 1):
            tensor = self._sites[site]
            matrix = matrices.get(site)
            turned = tensor if matrix is None else np.matmul(matrix, tensor)
            half = np.tensordot(left, turned, axes=(1, 0))
            left = np.tensordot(tensor.conj(), half, axes=((0, 1), (0, 1)))
        # sites to the right are right-orthonormal: they give the identity
        return float(np.trace(left).real)

    def amplitude(self, bits: Sequence[int]) -> complex:
        """Return ⟨bits|state⟩, one bit per site; call `finish` first."""
        row = np.ones(1, dtype=np.complex128)
        for tensor, bit in zip(self._sites, bits, strict=True):
            row = row @ tensor[:, bit, :]
        return complex(row[0])


def _pass_on(tensor: npt.NDArray[np.complex128], bond: int) -> npt.NDArray[np.complex128]:
    """Widen both bonds of a site that a gate only passes."""
    left, _, right = tensor.shape
    out = np.zeros((left, bond, 2, right, bond), dtype=np.complex128)
    for index in range(bond):
        out[:, index, :, :, index] = tensor
    return out.reshape(left * bond, 2, right * bond)


def _svd(
    matrix: npt.NDArray[np.complex128],
) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.float64], npt.NDArray[np.complex128]]:
    try:
        return np.linalg.svd(matrix, full_matrices=False)
    except np.linalg.LinAlgError:
        # the fast routine gives up on rare matrices; the eigenvectors of the square are enough where weights count
        weights, v = np.linalg.eigh(matrix.conj().T @ matrix)
        s = np.sqrt(np.clip(weights[::-1], 1e-300, None))
        v = v[:, ::-1]
        return (matrix @ v) / s, s, v.conj().T
