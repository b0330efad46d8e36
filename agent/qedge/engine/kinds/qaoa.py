"""QAOA on diagonal costs: the energies of all states are computed once, so that layers cost no gates.

Farhi, Goldstone, Gutmann, arXiv:1411.4028; the method of precomputed diagonals: Lykov et al., arXiv:2309.04841. Bit i
of an index is spin i, and 1 is z = −1. Gradients by the adjoint method (Jones and Gacon, arXiv:2009.02823).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qedge.base.errors import QedgeError
from qedge.engine.kinds.model import Bench, Forecast, Outcome
from qedge.wire.jobs import Register
from qedge.wire.tasks import QaoaResult, QaoaTask
from qedge_driver_api import PropertyValue

Energies = npt.NDArray[np.float64]
State = npt.NDArray[np.complex128]

MAX_SPINS: Final = 22
_PER_AMPLITUDE_S: Final = 6e-9
_RAMP: Final = 0.75
_METADATA: Final[Mapping[str, PropertyValue]] = {
    "driver": "engine",
    "method": "diagonal",
    "exact": True,
    "simulated": True,
}


class Ansatz:
    """The state of given angles, its energy, and the gradient of that."""

    def __init__(self, energies: Energies) -> None:
        self.energies = energies
        self.num_spins = len(energies).bit_length() - 1
        self.evaluations = 0

    def state(self, gammas: Sequence[float], betas: Sequence[float]) -> State:
        """Return Π exp(−iβΣX)·exp(−iγC) applied to the uniform superposition."""
        size = len(self.energies)
        psi = np.full(size, 1 / math.sqrt(size), dtype=np.complex128)
        for gamma, beta in zip(gammas, betas, strict=True):
            psi *= np.exp(-1j * gamma * self.energies)
            psi = self._mix(psi, beta)
        return psi

    def _mix(self, psi: State, beta: float) -> State:
        c, s = math.cos(beta), -1j * math.sin(beta)
        for spin in range(self.num_spins):
            pairs = psi.reshape(-1, 2, 1 << spin)
            psi = (c * pairs + s * pairs[:, ::-1, :]).reshape(-1)
        return psi

    def _flipped(self, psi: State) -> State:
        """Return ΣX applied to a state."""
        total = np.zeros_like(psi)
        for spin in range(self.num_spins):
            total += psi.reshape(-1, 2, 1 << spin)[:, ::-1, :].reshape(-1)
        return total

    def energy(self, psi: State) -> float:
        """Return the mean cost."""
        return float((psi.real**2 + psi.imag**2) @ self.energies)

    def energy_and_gradient(self, angles: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        """Return the energy and its derivatives by all γ, then all β."""
        self.evaluations += 1
        layers = len(angles) // 2
        gammas, betas = angles[:layers].tolist(), angles[layers:].tolist()
        psi = self.state(gammas, betas)
        value = self.energy(psi)
        pull = psi * self.energies
        gradient = np.zeros(2 * layers)
        for layer in range(layers - 1, -1, -1):
            gradient[layers + layer] = 2 * np.vdot(pull, self._flipped(psi)).imag
            psi, pull = self._mix(psi, -betas[layer]), self._mix(pull, -betas[layer])
            gradient[layer] = 2 * np.vdot(pull, self.energies * psi).imag
            back = np.exp(1j * gammas[layer] * self.energies)
            psi, pull = psi * back, pull * back
        return value, gradient


def cost_of_all(task: QaoaTask) -> Energies:
    """Return the cost of every state."""
    indices = np.arange(1 << task.spins, dtype=np.uint32)
    spins = [1.0 - 2.0 * (indices >> np.uint32(spin) & np.uint32(1)) for spin in range(task.spins)]
    energies = np.full(len(indices), task.offset)
    for one, other, weight in task.couplings:
        energies += weight * spins[one] * spins[other]
    for spin, weight in enumerate(task.fields):
        energies += weight * spins[spin]
    return energies


def optimise(ansatz: Ansatz, layers: int, evaluations: int) -> tuple[list[float], list[float]]:
    """Find angles of low energy, from a linear ramp (Zhou et al., arXiv:1812.01041) by L-BFGS."""
    from scipy.optimize import minimize

    scale = float(np.std(ansatz.energies)) or 1.0
    steps = (np.arange(layers) + 0.5) / layers
    start = np.concatenate([_RAMP * steps / scale, -_RAMP * (1 - steps)])
    # angles of the cost are measured in its spread, so that both kinds are of one size
    units = np.concatenate([np.full(layers, 1 / scale), np.ones(layers)])

    def scaled(point: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        value, gradient = ansatz.energy_and_gradient(point * units)
        return value / scale, gradient * units / scale

    best: tuple[float, npt.NDArray[np.float64]] | None = None
    for sign in (-1.0, 1.0):
        left = evaluations - ansatz.evaluations
        if left < 1:
            break
        begin = np.concatenate([start[:layers], sign * start[layers:]]) / units
        found = minimize(scaled, begin, jac=True, method="L-BFGS-B", options={"maxfun": left, "maxiter": left})
        if best is None or found.fun < best[0]:
            best = (float(found.fun), found.x)
    angles = start if best is None else best[1] * units
    return angles[:layers].tolist(), angles[layers:].tolist()


@dataclass(frozen=True, slots=True)
class QaoaKind:
    """See `QaoaTask`."""

    def forecast(self, bench: Bench, task: QaoaTask) -> Forecast:
        """See `Kind.forecast`."""
        self._check(bench, task)
        amplitudes = 1 << task.spins
        layers = len(task.gammas) or task.layers
        rounds = 1.0 if task.gammas else 3.0 * task.evaluations
        per_round = layers * (task.spins * amplitudes * _PER_AMPLITUDE_S + 40e-6 * task.spins)
        first = (len(task.couplings) + task.spins + 4) * (amplitudes * 4e-9 + 20e-6)
        return Forecast(
            qubits=task.spins,
            clbits=task.spins,
            operations=layers * (task.spins + len(task.couplings) + len(task.fields)),
            memory_bytes=amplitudes * (8 * task.spins + 16 * 8) + (32 << 20),
            time_s=first + rounds * per_round + bench.shots * 1e-7,
            result_bytes=min(bench.shots, amplitudes) * (task.spins + 16),
            method="diagonal",
            registers=(Register("z", task.spins, 0),),
        )

    def perform(self, bench: Bench, task: QaoaTask) -> Outcome:
        """See `Kind.perform`."""
        self._check(bench, task)
        energies = cost_of_all(task)
        ansatz = Ansatz(energies)
        gammas, betas = list(task.gammas), list(task.betas)
        if not gammas:
            gammas, betas = optimise(ansatz, task.layers, task.evaluations)
        bench.stop_if_unwanted()
        psi = ansatz.state(gammas, betas)
        weights = np.cumsum(psi.real**2 + psi.imag**2)
        rng = np.random.default_rng(bench.seed)
        drawn = np.minimum(np.searchsorted(weights, rng.random(bench.shots) * weights[-1]), len(weights) - 1)
        values, times = np.unique(drawn, return_counts=True)
        best = int(values[np.argmin(energies[values])])
        lowest = int(np.argmin(energies))
        ties = np.flatnonzero(energies <= energies[lowest] + 1e-9 * max(1.0, abs(float(energies[lowest]))))
        data = QaoaResult(
            energy=ansatz.energy(psi),
            gammas=tuple(gammas),
            betas=tuple(betas),
            best_bits=format(best, f"0{task.spins}b"),
            best_cost=float(energies[best]),
            optimum=float(energies[lowest]),
            optimum_bits=format(lowest, f"0{task.spins}b"),
            optimum_exact=True,
            optimum_probability=float((psi[ties].real ** 2 + psi[ties].imag ** 2).sum()),
            baseline="all states",
            evaluations=ansatz.evaluations,
        )
        counts = dict(zip(values.tolist(), times.tolist(), strict=True))
        registers = (Register("z", task.spins, 0),)
        return Outcome(counts, task.spins, registers, data, _METADATA)

    def _check(self, bench: Bench, task: QaoaTask) -> None:
        if bench.template is not None:
            raise QedgeError("job.bad_request", "A QAOA task takes no program.", fix="Leave the program out.")
        if task.spins > MAX_SPINS:
            raise QedgeError(
                "circuit.too_many_qubits",
                f"QAOA holds the cost of every state: at most {MAX_SPINS} spins, not {task.spins}.",
                fix="Split the problem, or fix some of its spins.",
                limit=MAX_SPINS,
            )
        numbers = [*task.fields, *task.gammas, *task.betas, task.offset, *(weight for _, _, weight in task.couplings)]
        if not all(math.isfinite(number) for number in numbers):
            raise QedgeError("job.bad_request", "A coefficient or an angle is not a finite number.")
        pairs = [(one, other) for one, other, _ in task.couplings]
        if any(not 0 <= one < task.spins or not 0 <= other < task.spins or one == other for one, other in pairs):
            raise QedgeError(
                "job.bad_request",
                f"A coupling joins two different spins from 0 to {task.spins - 1}.",
                fix="Check them.",
            )
        if len(task.fields) not in (0, task.spins) or len(task.gammas) != len(task.betas):
            raise QedgeError(
                "job.bad_request", "There are as many fields as spins or none, and as many gammas as betas."
            )
