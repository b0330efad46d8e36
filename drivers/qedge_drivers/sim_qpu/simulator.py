"""Chooses how to run a task, predicts what that costs, and runs it."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from qedge_driver_api import Condition, FlatCircuit, Gate, ProgramError, PropertyValue, QpuEstimate, QpuResult, QpuTask
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu import stabilizer, wide
from qedge_drivers.sim_qpu.backends import Backend, open_backend
from qedge_drivers.sim_qpu.branching import Brancher, Leaf
from qedge_drivers.sim_qpu.costs import (
    LEARN_FROM_S,
    MATRIX_PASSES,
    CostModel,
    largest_bond,
    memory_bytes,
    shots_s,
    teaches,
)
from qedge_drivers.sim_qpu.counts import count, count_drawn, flip_bits
from qedge_drivers.sim_qpu.dense import draw
from qedge_drivers.sim_qpu.memory import available_bytes
from qedge_drivers.sim_qpu.methods import (
    BRANCHING,
    CONSTANT,
    DENSITY_MATRIX,
    MPS,
    STABILIZER,
    STABILIZER_FROM,
    STATE_VECTOR,
    TRAJECTORIES,
    Choice,
    Wish,
    choose,
    read_wish,
)
from qedge_drivers.sim_qpu.noise import Site, density_plan, draw_event, event_probability, noise_sites
from qedge_drivers.sim_qpu.program import (
    BARRIER,
    MEASURE,
    Bound,
    Plan,
    Structure,
    Turning,
    params_of,
    plan,
    structure_of,
)
from qedge_drivers.sim_qpu.settings import Device
from qedge_drivers.sim_qpu.states import DensityStates, PureStates

_KNOWN_CODES: Final = frozenset(int(gate) for gate in Gate)
MAX_SHOTS: Final = 1_000_000
_SAFE_SHARE: Final = 0.8
_ALWAYS_FREE_BYTES: Final = 48 << 20
"""Below this nobody asks how much is free: it takes longer than a small circuit."""
_ALWAYS_FITS: Final = 22
_BACKENDS: Final = {STABILIZER: "stim", MPS: "numpy"}
_DRAWN_QUBITS: Final = 11
"""How often each value is found is drawn for all values at once up to here; above, qsim draws shots one by one."""
_NO_WISH: Final = Wish()
_CACHED_PLANS: Final = 8
_CACHED_OPERATIONS: Final = 100_000


_Form = tuple[int, int, tuple[Condition, ...], Structure]
"""All of a circuit but its parameters: numbers of qubits and bits, conditions, operations."""


@dataclass(slots=True)
class Prepared:
    """A task's circuit, reduced and scheduled, with the method it will be run by.

    `layout` is the plan of `first`, the first circuit of the same form: all of it but the parameters is that of this
    circuit too. `form` and `structure` (that of the plan's operations) stay the same objects for circuits of one form.
    """

    circuit: FlatCircuit
    first: FlatCircuit
    layout: Plan
    sites: list[Site]
    choice: Choice
    wish: Wish
    form: _Form
    structure: Structure
    turning: Turning | None = None
    _plan: Plan | None = None

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.choice.method

    @property
    def num_ops(self) -> int:
        """Number of operations of the circuit."""
        return len(self.form[-1][0])

    @property
    def plan(self) -> Plan:
        """The plan with the parameters of this circuit; made when it is first asked for."""
        if self._plan is None:
            self._plan = self.layout.rebound(self.first, self.circuit)
        return self._plan

    def ops(self) -> Sequence[Op]:
        """Return the plan's operations for a kernel, with what it would have to find out again."""
        circuit, turning = self.circuit, self.turning
        if circuit.model is None:
            return Bound(self.structure, params_of(self.plan.ops), lambda: self.plan.ops)
        if turning is None or turning.model is not circuit.model or turning.places is not circuit.places:
            turning = self.turning = Turning(circuit.model, circuit.places, self.layout.kept)
        return Bound(self.structure, turning.params(circuit.angles), lambda: self.plan.ops)

    def of(self, circuit: FlatCircuit) -> Prepared:
        """Return the same for another circuit of its form."""
        return Prepared(
            circuit,
            self.first,
            self.layout,
            self.sites,
            self.choice,
            self.wish,
            self.form,
            self.structure,
            self.turning,
        )


class _Events:
    """The noise of a plan as the brancher wants it."""

    def __init__(self, sites: list[Site], device: Device) -> None:
        self._sites = sites
        self._device = device
        self._probability = [min(event_probability(site, device), 1.0) for site in sites]
        self.at: Sequence[int] = [site.at for site in sites]
        self.owner: Sequence[int] = [site.owner for site in sites]
        with np.errstate(divide="ignore"):
            self.log_survival = np.log1p(-np.array(self._probability, dtype=np.float64))

    def probability(self, index: int) -> float:
        return self._probability[index]

    def draw(self, index: int, rng: np.random.Generator) -> tuple[Op, ...]:
        return draw_event(self._sites[index], self._device, rng)


class Simulator:
    """Runs tasks on one device; `backend` is the setting of that name."""

    def __init__(self, device: Device, backend: str) -> None:
        self.device = device
        self.backend: Backend = open_backend(backend)
        self.costs = CostModel()
        self.has_stim = importlib.util.find_spec("stim") is not None
        self._cache: list[Prepared] = []

    def prepare(self, circuit: FlatCircuit, wish: Wish = _NO_WISH) -> Prepared:
        """Check a circuit against the device and choose a method; raises `ProgramError`."""
        for known in self._cache:
            if known.wish == wish:
                if known.circuit is circuit:
                    return known
                if circuit.shape is not None and known.circuit.shape is circuit.shape:
                    return self._rebind(known, circuit)
        form = (circuit.num_qubits, circuit.num_clbits, circuit.conditions, structure_of(circuit.ops))
        for known in self._cache:
            if known.form == form and known.wish == wish:
                return self._rebind(known, circuit)
        self._check(circuit)
        noisy = self.device.noisy or self.device.readout_error > 0
        reduced = plan(circuit, keep_identities=noisy)
        sites = noise_sites(reduced, self.device) if noisy else []
        choice = self._choose(reduced, wish)
        prepared = Prepared(circuit, circuit, reduced, sites, choice, wish, form, structure_of(reduced.ops))
        self._remember(prepared)
        return prepared

    def _rebind(self, known: Prepared, circuit: FlatCircuit) -> Prepared:
        prepared = known.of(circuit)
        # what parameters decide is whether gates are Clifford gates, and that matters for wide circuits alone
        if known.layout.num_qubits >= STABILIZER_FROM or known.wish.method:
            prepared.choice = self._choose(prepared.plan, known.wish)
        self._remember(prepared)
        return prepared

    def _choose(self, reduced: Plan, wish: Wish) -> Choice:
        return choose(reduced, self.device, wish, has_stim=self.has_stim, fits=_fits)

    def calibrate(self) -> dict[str, float]:
        """Measure how fast the kernel is here, so that estimates fit; returns nanoseconds per amplitude and pass."""
        rng = np.random.default_rng(0)
        return self.costs.calibrate(lambda num_qubits, ops: self.backend.sample(num_qubits, ops, 1, rng))

    def _remember(self, prepared: Prepared) -> None:
        """Keep it in place of what there is of its form and wish."""
        kept, operations = [prepared], prepared.num_ops
        for known in self._cache:
            if known.form is prepared.form and known.wish == prepared.wish:
                continue
            operations += known.num_ops
            if operations <= _CACHED_OPERATIONS and len(kept) < _CACHED_PLANS:
                kept.append(known)
        self._cache = kept

    def _check(self, circuit: FlatCircuit) -> None:
        unknown = {op[0] for op in circuit.ops} - _KNOWN_CODES
        if unknown:
            raise ProgramError("unsupported", f"the program has the operation code {min(unknown)}, which is none")
        device = self.device
        all_to_all = device.connectivity == "all"
        if all_to_all and circuit.num_qubits <= device.num_qubits:
            return
        for gate, qubits, _, _ in circuit.ops:
            if gate == BARRIER:
                continue
            if qubits and max(qubits) >= device.num_qubits:
                raise ProgramError(
                    "too_many_qubits",
                    f"the program acts on qubit {max(qubits)}, but the device has {device.num_qubits} qubits (from 0)",
                )
            if all_to_all:
                continue
            for order, one in enumerate(qubits):
                for other in qubits[order + 1 :]:
                    if not device.coupled(one, other):
                        raise ProgramError(
                            "unsupported",
                            f"qubits {one} and {other} are not coupled on this device ({device.connectivity})",
                        )

    def estimate(self, task: QpuTask) -> QpuEstimate:
        """Predict memory, time and method; raises `ProgramError` where the task cannot run."""
        prepared = self.prepare(task.circuit, read_wish(task.options))
        memory = self._memory(prepared, task)
        return QpuEstimate(memory, self._seconds(prepared, task.shots), prepared.method)

    def _memory(self, prepared: Prepared, task: QpuTask) -> int:
        """Return the bytes that a task takes; raises `ProgramError` where they are not there."""
        shots, reduced = task.shots, prepared.layout
        if not 1 <= shots <= MAX_SHOTS:
            raise ProgramError("too_many_shots", f"expected 1 … {MAX_SHOTS} shots, got {shots}")
        amplitudes, live = self._size(prepared, shots)
        memory = memory_bytes(
            reduced,
            prepared.num_ops,
            task.circuit.num_clbits,
            shots,
            method=prepared.method,
            amplitudes=amplitudes,
            live=live,
            bond=largest_bond(prepared.choice.chain, prepared.wish.max_bond),
        )
        if memory > _ALWAYS_FREE_BYTES and memory > _SAFE_SHARE * (free := available_bytes()):
            raise ProgramError(
                "too_many_qubits" if live * amplitudes > memory // 16 else "too_much_memory",
                f"the result depends on {reduced.num_qubits} qubits and takes {memory >> 20} MiB; "
                f"{max(free, 0) >> 20} MiB are free",
            )
        return memory

    def _size(self, prepared: Prepared, shots: int) -> tuple[int, int]:
        """Return `(amplitudes of a state, states alive at once)`."""
        n = prepared.layout.num_qubits
        if prepared.method in (CONSTANT, STABILIZER, MPS):
            return 0, 0
        if prepared.method == DENSITY_MATRIX:
            measures = sum(1 for stop in prepared.layout.stops if prepared.layout.ops[stop][0] == MEASURE)
            return 1 << 2 * n, 4 + min(1 << min(measures, 40), shots).bit_length()
        if prepared.method == STATE_VECTOR:
            # qsim samples from its own state; elsewhere the state, its weights and their sums exist at once
            return 1 << n, 1 if self.backend.name == "qsim" else 4
        return 1 << n, 3 + min(len(prepared.layout.stops) + 1, shots.bit_length())

    def _seconds(self, prepared: Prepared, shots: int) -> float:
        return shots_s(shots, prepared.layout.num_clbits) + self._kernel_seconds(prepared, shots)

    def _kernel_seconds(self, prepared: Prepared, shots: int) -> float:
        reduced, costs = prepared.layout, self.costs
        n, chain = reduced.num_qubits, prepared.choice.chain
        if prepared.method == STABILIZER:
            return costs.stabilizer_s(reduced, shots)
        if prepared.method == MPS and chain is not None:
            return costs.mps_s(reduced, chain, prepared.wish.max_bond, shots)
        if prepared.method == DENSITY_MATRIX:
            # noise is woven into as many operations again
            return costs.branching_s(reduced, shots, 0.0, 2 * n, 2 * MATRIX_PASSES)
        if prepared.method in (BRANCHING, TRAJECTORIES):
            clean = 1.0
            for site in prepared.sites:
                clean *= 1 - min(event_probability(site, self.device), 1.0)
            return costs.branching_s(reduced, shots, shots * (1 - clean), n, 1.0)
        return costs.state_s(n, reduced.ops)

    def run(self, task: QpuTask, cancelled: Callable[[], bool]) -> QpuResult:
        """Run a task; raises `ProgramError`, or `CancelledError` where it was asked to end."""
        started = time.perf_counter()
        prepared = self.prepare(task.circuit, read_wish(task.options))
        self._memory(prepared, task)
        planned = time.perf_counter()
        rng = np.random.default_rng(task.seed)
        metadata: dict[str, PropertyValue] = {}
        counts = self._counts(prepared, task.shots, rng, cancelled, metadata)
        kernel_s = time.perf_counter() - planned
        n, ops = prepared.layout.num_qubits, prepared.layout.ops
        if prepared.method == STATE_VECTOR and kernel_s > LEARN_FROM_S and teaches(n, ops):
            self.costs.learn(n, self._seconds(prepared, task.shots), kernel_s)
        readout = [*prepared.layout.final, *prepared.layout.idle]
        counts = flip_bits(counts, readout, self.device.readout_error, rng)
        metadata |= {
            "method": prepared.method,
            "backend": _BACKENDS.get(prepared.method, self.backend.name),
            "qubits": n,
            "operations": len(ops),
            "noisy": self.device.noisy or self.device.readout_error > 0,
            "plan_s": planned - started,
            "kernel_s": kernel_s,
        }
        if prepared.sites and self._twirled(prepared.method):
            metadata["approximation"] = "relaxation as its Pauli twirl"
        return QpuResult(counts, task.shots, metadata)

    def _twirled(self, method: str) -> bool:
        if not self.device.decays:
            return False
        return method == STABILIZER or (method == TRAJECTORIES and self.device.t2_us > self.device.t1_us)

    def _counts(
        self,
        prepared: Prepared,
        shots: int,
        rng: np.random.Generator,
        cancelled: Callable[[], bool],
        metadata: dict[str, PropertyValue],
    ) -> Mapping[int, int]:
        reduced, sites = prepared.layout, prepared.sites
        if prepared.method == CONSTANT:
            return {0: shots}
        if prepared.method == STATE_VECTOR:
            n = reduced.num_qubits
            if n <= _DRAWN_QUBITS:
                return count_drawn(reduced, *draw(self.backend.evolve(n, prepared.ops(), None), shots, rng))
            return count(reduced, [(0, self.backend.sample(n, prepared.ops(), shots, rng))])
        reduced = prepared.plan
        if prepared.method == STABILIZER:
            return stabilizer.run(reduced, sites, self.device, shots, int(rng.integers(1 << 62)), cancelled)
        if prepared.method == MPS and prepared.choice.chain is not None:
            return wide.run(reduced, prepared.choice.chain, prepared.wish, shots, rng, cancelled, metadata)
        leaves: list[Leaf]
        if prepared.method == DENSITY_MATRIX:
            woven, flips = density_plan(reduced, sites, self.device)
            states = DensityStates(self.backend, reduced.num_qubits)
            leaves = Brancher(woven, states, _Events(flips, self.device) if flips else None, rng, cancelled).leaves(
                shots
            )
        else:
            events = _Events(sites, self.device) if sites else None
            pure = PureStates(self.backend, reduced.num_qubits)
            leaves = Brancher(reduced, pure, events, rng, cancelled).leaves(shots)
        return count(reduced, leaves)


def _fits(num_qubits: int) -> bool:
    return num_qubits <= _ALWAYS_FITS or 8 << num_qubits <= _SAFE_SHARE * available_bytes()
