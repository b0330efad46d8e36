"""Values of Pauli sums in a state, and the state itself, without sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from qedge_driver_api import FlatCircuit, Gate, PauliSum, ProgramError, PropertyValue
from qedge_drivers.sim_qpu import batch
from qedge_drivers.sim_qpu.dense import State
from qedge_drivers.sim_qpu.gates import Matrix, gate_matrix
from qedge_drivers.sim_qpu.memory import available_bytes
from qedge_drivers.sim_qpu.methods import DENSITY_MATRIX, MPS, STABILIZER, STATE_VECTOR, Wish, read_wish
from qedge_drivers.sim_qpu.mps import MatrixProduct
from qedge_drivers.sim_qpu.noise import density_plan
from qedge_drivers.sim_qpu.program import MEASURE, Plan
from qedge_drivers.sim_qpu.simulator import Prepared, Simulator
from qedge_drivers.sim_qpu.wide import evolve

MAX_AMPLITUDE_QUBITS: Final = 24
_BLOCK: Final = 1 << 18
_KEPT_WEIGHTS: Final = 1 << 22
_SAFE_SHARE: Final = 0.8
_PAULIS: Final = {"X": int(Gate.X), "Y": int(Gate.Y), "Z": int(Gate.Z)}

Complex = npt.NDArray[np.complex128]


def expectations(
    simulator: Simulator,
    circuits: Sequence[FlatCircuit],
    observables: Sequence[PauliSum],
    options: Mapping[str, PropertyValue],
) -> list[list[float]]:
    """Return the value of each observable after each circuit; circuits of one shape are planned once."""
    wish = read_wish(options)
    support = sorted({qubit for observable in observables for product, _ in observable for qubit, _ in product})
    looked: dict[int, tuple[FlatCircuit, FlatCircuit]] = {}
    values: list[list[float]] = []
    meter: _Meter | None = None
    before: Plan | None = None
    if len(circuits) > 1:
        values = _batched(simulator, circuits, observables, support, wish)
        circuits = circuits[len(values) :]
    for circuit in circuits:
        known = looked.get(id(circuit.shape)) if circuit.shape is not None else None
        measured = _looked_at(circuit, support, known[1].shape if known else object())
        looked = {id(circuit.shape): (circuit, measured)}
        prepared = simulator.prepare(measured, wish)
        _check(prepared)
        if meter is None or before is None or before.device_qubits != prepared.plan.device_qubits:
            meter = _Meter(prepared.plan, observables)
        before = prepared.plan
        values.append(_values(simulator, prepared, meter, wish))
    return values


def _batched(
    simulator: Simulator,
    circuits: Sequence[FlatCircuit],
    observables: Sequence[PauliSum],
    support: Sequence[int],
    wish: Wish,
) -> list[list[float]]:
    """Return the values where all circuits have one shape and are small enough to be run at once, else none."""
    shape = circuits[0].shape
    if shape is None or any(circuit.shape is not shape for circuit in circuits) or simulator.device.noisy:
        return []
    prepared = simulator.prepare(_looked_at(circuits[0], support, object()), wish)
    _check(prepared)
    plan = prepared.plan
    if prepared.method != STATE_VECTOR or not batch.can_batch(plan.num_qubits, plan.ops, len(circuits)):
        return []
    meter = _Meter(plan, observables)
    states = batch.evolve(plan.num_qubits, plan.ops, _params(circuits, plan.kept))
    return [meter.in_state(state) for state in states]


def _params(circuits: Sequence[FlatCircuit], kept: Sequence[int]) -> list[list[tuple[float, ...]]]:
    """Return the parameters of these operations of each circuit."""
    model, places = circuits[0].model, circuits[0].places
    if model is None or any(each.model is not model or each.places is not places for each in circuits):
        return [[each.ops[index][2] for index in kept] for each in circuits]
    spots = {index: spot for spot, index in enumerate(kept)}
    turned = [(spots[place], which) for which, place in enumerate(places) if place in spots]
    rows: list[list[tuple[float, ...]]] = []
    for each in circuits:
        row = [model.ops[index][2] for index in kept]
        for spot, which in turned:
            row[spot] = (each.angles[which],)
        rows.append(row)
    return rows


def amplitudes(simulator: Simulator, circuit: FlatCircuit) -> bytes:
    """Return the state vector after a circuit, index bit q = qubit q."""
    n = circuit.num_qubits
    if n > MAX_AMPLITUDE_QUBITS or 24 << n > _SAFE_SHARE * available_bytes():
        raise ProgramError("too_many_qubits", f"amplitudes of {n} qubits; at most {MAX_AMPLITUDE_QUBITS} are given")
    if simulator.device.noisy:
        raise ProgramError("unsupported", "the device is noisy, so there is no state vector")
    prepared = simulator.prepare(_looked_at(circuit, range(n), None), Wish())
    _check(prepared)
    gates = [op for op in circuit.ops if op[0] < MEASURE]
    return simulator.backend.evolve(n, gates, None).tobytes()


def _looked_at(circuit: FlatCircuit, support: Sequence[int], shape: object | None) -> FlatCircuit:
    """Return the circuit with the qubits of the observables measured at its end, so that a plan keeps these."""
    last = tuple([(MEASURE, (qubit,), (), circuit.num_clbits + place) for place, qubit in enumerate(support)])
    num_clbits = circuit.num_clbits + len(support)
    return FlatCircuit(circuit.num_qubits, num_clbits, circuit.ops + last, circuit.conditions, shape)


def _check(prepared: Prepared) -> None:
    if prepared.plan.stops:
        raise ProgramError("not_exact", "it measures, resets or decides before its end, so its state is not one state")


def _values(simulator: Simulator, prepared: Prepared, meter: _Meter, wish: Wish) -> list[float]:
    reduced = prepared.plan
    n, device = reduced.num_qubits, simulator.device
    chain = prepared.choice.chain
    if prepared.method == MPS and chain is not None:
        return meter.in_chain(evolve(reduced, chain, wish, lambda: False), chain.sites)
    if device.noisy:
        if prepared.method != DENSITY_MATRIX:
            raise ProgramError("not_exact", f"the device is noisy, and a density matrix of {n} qubits is not held")
        woven, _ = density_plan(reduced, prepared.sites, device)
        return meter.in_mixture(simulator.backend.evolve(2 * n, woven.ops, None))
    if prepared.method in (STATE_VECTOR, STABILIZER, DENSITY_MATRIX) and (n <= MAX_AMPLITUDE_QUBITS or _fits(n)):
        return meter.in_state(simulator.backend.evolve(n, prepared.ops(), None))
    return meter.in_nothing() if n == 0 else _stabilizer_values(reduced, meter)


def _fits(n: int) -> bool:
    return n <= 30 and 3 * 8 << n <= _SAFE_SHARE * available_bytes()


def _stabilizer_values(reduced: Plan, meter: _Meter) -> list[float]:
    import stim

    from qedge_drivers.sim_qpu.stabilizer import lines

    simulator = stim.TableauSimulator()
    simulator.set_num_qubits(reduced.num_qubits)
    simulator.do_circuit(stim.Circuit("\n".join(line for op in reduced.ops for line in lines(op))))
    return [
        sum(
            weight
            * simulator.peek_observable_expectation(
                stim.PauliString("*".join(f"{letter}{qubit}" for qubit, letter in product))
            )
            if product
            else weight
            for product, weight in terms
        )
        for terms in meter.terms
    ]


class _Meter:
    """Pauli sums over the qubits of a plan. A qubit that the plan dropped is in |0⟩: Z is 1 there, X and Y are 0."""

    def __init__(self, reduced: Plan, observables: Sequence[PauliSum]) -> None:
        place = {qubit: index for index, qubit in enumerate(reduced.device_qubits)}
        self.num_qubits = reduced.num_qubits
        self.terms: list[list[tuple[tuple[tuple[int, str], ...], float]]] = []
        for observable in observables:
            kept: list[tuple[tuple[tuple[int, str], ...], float]] = []
            for product, weight in observable:
                if all(letter == "Z" for qubit, letter in product if qubit not in place):
                    kept.append((tuple((place[qubit], letter) for qubit, letter in product if qubit in place), weight))
            self.terms.append(kept)
        self._flips = [{self._masks(product)[0] for product, _ in terms} for terms in self.terms]
        self._weights: list[dict[int, Complex]] | None = None
        self._diagonal: npt.NDArray[np.float64] | None = None

    def in_nothing(self) -> list[float]:
        """Values where no qubit is left that anything acts on."""
        return [sum(weight for _, weight in terms) for terms in self.terms]

    def _masks(self, product: Sequence[tuple[int, str]]) -> tuple[int, int, complex]:
        """Return `(flips, signs, phase)`: the product maps |k⟩ to phase·(−1)^{|k & signs|}·|k ^ flips⟩."""
        flips = sum(1 << qubit for qubit, letter in product if letter != "Z")
        signs = sum(1 << qubit for qubit, letter in product if letter != "X")
        return flips, signs, 1j ** sum(1 for _, letter in product if letter == "Y")

    def _summed(self, begin: int, end: int) -> list[dict[int, Complex]]:
        """Return per observable, by flips: the summed weights of |k⟩ for k from `begin` up to `end`."""
        indices = np.arange(begin, end, dtype=np.uint64)
        out: list[dict[int, Complex]] = []
        for terms in self.terms:
            summed: dict[int, Complex] = {}
            for product, weight in terms:
                flips, signs, phase = self._masks(product)
                odd = np.bitwise_count(indices & np.uint64(signs)) & 1
                own = (weight * phase) * (1.0 - 2.0 * odd)
                summed[flips] = summed[flips] + own if flips in summed else own.astype(np.complex128)
            out.append(summed)
        return out

    def _blocks(self) -> list[tuple[int, list[dict[int, Complex]]]]:
        size = 1 << self.num_qubits
        if size * sum(map(len, self._flips)) <= _KEPT_WEIGHTS:
            if self._weights is None:
                self._weights = self._summed(0, size)
            return [(0, self._weights)]
        return []

    def _diagonals(self) -> npt.NDArray[np.float64] | None:
        """Return the weights of observables of Z alone, `[observable, index]`; None where they flip or are large."""
        if self._diagonal is None and all(flips <= {0} for flips in self._flips):
            kept = self._blocks()
            if kept:
                rows = [weights[0].real if weights else np.zeros(1 << self.num_qubits) for weights in kept[0][1]]
                self._diagonal = np.ascontiguousarray(rows)
        return self._diagonal

    def in_state(self, state: State) -> list[float]:
        """Values in a state vector."""
        size = len(state)
        if size == 1:
            return self.in_nothing()
        diagonal = self._diagonals()
        if diagonal is not None:
            real, imaginary = state.real.astype(np.float64), state.imag.astype(np.float64)
            chances = real * real + imaginary * imaginary
            values: list[float] = (diagonal @ chances / chances.sum()).tolist()
            return values
        kept = self._blocks()
        found = [0.0] * len(self.terms)
        for begin in (0,) if kept else range(0, size, _BLOCK):
            end = size if kept else min(size, begin + _BLOCK)
            summed = kept[0][1] if kept else self._summed(begin, end)
            part = state[begin:end]
            indices = np.arange(begin, end)
            turned: dict[int, Complex] = {}
            for number, weights in enumerate(summed):
                for flips, weight in weights.items():
                    if flips not in turned:
                        other = part if flips == 0 else state[indices ^ flips]
                        turned[flips] = other.conj().astype(np.complex128) * part
                    found[number] += float((weight @ turned[flips]).real)
        norm = float(np.vdot(state, state).real)
        return [value / norm for value in found]

    def in_mixture(self, state: State) -> list[float]:
        """Values in a density matrix, a vector with the row in the low bits of the index."""
        size = 1 << self.num_qubits
        indices = np.arange(size)
        trace = float(state[:: size + 1].real.sum())
        values: list[float] = []
        for weights in self._summed(0, size):
            found = sum(
                (weight @ state[indices + ((indices ^ flips) << self.num_qubits)].astype(np.complex128)).real
                for flips, weight in weights.items()
            )
            values.append(float(found) / trace)
        return values

    def in_chain(self, state: MatrixProduct, sites: Sequence[int]) -> list[float]:
        """Values in a matrix product state."""
        values: list[float] = []
        for terms in self.terms:
            total = 0.0
            for product, weight in terms:
                matrices: dict[int, Matrix] = {
                    sites[qubit]: gate_matrix(_PAULIS[letter], ()) for qubit, letter in product
                }
                total += weight * state.expectation(matrices)
            values.append(total)
        return values
