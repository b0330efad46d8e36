"""Chooses how to run a task, predicts what that costs, and runs it."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from qedge_driver_api import FlatCircuit, Gate, ProgramError, PropertyValue, QpuEstimate, QpuResult, QpuTask
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu import stabilizer
from qedge_drivers.sim_qpu.backends import Backend, open_backend
from qedge_drivers.sim_qpu.branching import Brancher, Leaf
from qedge_drivers.sim_qpu.counts import count, flip_bits
from qedge_drivers.sim_qpu.memory import available_bytes
from qedge_drivers.sim_qpu.noise import Site, density_plan, draw_event, event_probability, noise_sites
from qedge_drivers.sim_qpu.program import BARRIER, MEASURE, RESET, Plan, is_clifford, plan
from qedge_drivers.sim_qpu.settings import Device
from qedge_drivers.sim_qpu.states import DensityStates, PureStates

_KNOWN_CODES: Final = frozenset(int(gate) for gate in Gate)
MAX_STATE_QUBITS: Final = 30
"""Widest state vector, whatever the memory."""
MAX_DENSITY_QUBITS: Final = 8
"""Widest exact density matrix; above, noise is drawn shot by shot."""
MAX_SHOTS: Final = 1_000_000
_STABILIZER_FROM: Final = 17
"""Clifford circuits on fewer qubits run as state vectors, which are as fast there."""
_NOISY_STABILIZER_FROM: Final = 21
_SAFE_SHARE: Final = 0.8

# bytes and seconds per operation, amplitude and shot: measured on one core of a 2026 server (qsim, complex64)
_BYTES_PER_OP: Final = 1200
_BYTES_PER_SHOT: Final = 56
_BASE_BYTES: Final = 16 << 20
_ALWAYS_FREE_BYTES: Final = 48 << 20
"""Below this nobody asks how much is free: it takes longer than a small circuit."""
_SECONDS_PER_OP: Final = 1.6e-6
_SECONDS_PER_OP_AMPLITUDE: Final = 0.08e-9
_SECONDS_PER_SHOT: Final = 0.15e-6
_SECONDS_PER_RUN: Final = 0.1e-3
_CACHED_PLANS: Final = 8
_CACHED_OPERATIONS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task's circuit, reduced and scheduled, with the method it will be run by."""

    plan: Plan
    sites: list[Site]
    method: str
    branches: int
    """How many groups of shots a run may split into, before the number of shots bounds it."""
    num_ops: int


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
        self.has_stim = importlib.util.find_spec("stim") is not None
        self._cache: list[tuple[FlatCircuit, Prepared]] = []

    def prepare(self, circuit: FlatCircuit) -> Prepared:
        """Check a circuit against the device and choose a method; raises `ProgramError`."""
        for cached, prepared in self._cache:
            if cached is circuit:
                return prepared
        self._check(circuit)
        noisy = self.device.noisy or self.device.readout_error > 0
        reduced = plan(circuit, keep_identities=noisy)
        sites = noise_sites(reduced, self.device) if noisy else []
        method = self._method(reduced)
        splits = sum(1 for stop in reduced.stops if reduced.ops[stop][0] in (MEASURE, RESET))
        prepared = Prepared(reduced, sites, method, 1 << min(splits, 40), len(circuit.ops))
        self._remember(circuit, prepared)
        return prepared

    def _remember(self, circuit: FlatCircuit, prepared: Prepared) -> None:
        kept, operations = [(circuit, prepared)], prepared.num_ops
        for entry in self._cache[: _CACHED_PLANS - 1]:
            operations += entry[1].num_ops
            if operations <= _CACHED_OPERATIONS:
                kept.append(entry)
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

    def _method(self, reduced: Plan) -> str:
        n = reduced.num_qubits
        noisy = self.device.noisy
        if n == 0:
            return "constant"
        clifford = self.has_stim and n >= _STABILIZER_FROM and is_clifford(reduced.ops)
        if clifford and (n >= _NOISY_STABILIZER_FROM or not noisy):
            return "stabilizer"
        if n > MAX_STATE_QUBITS:
            raise ProgramError(
                "too_many_qubits",
                f"the result depends on {n} qubits; a state of more than {MAX_STATE_QUBITS} is not held "
                "(Clifford circuits may be wider)",
            )
        if noisy:
            small = n <= MAX_DENSITY_QUBITS and all(len(op[1]) <= 3 for op in reduced.ops)
            return "density_matrix" if small else "trajectories"
        return "branching" if reduced.stops else "state_vector"

    def estimate(self, task: QpuTask) -> QpuEstimate:
        """Predict memory, time and method; raises `ProgramError` where the task cannot run."""
        prepared = self.prepare(task.circuit)
        shots = task.shots
        if not 1 <= shots <= MAX_SHOTS:
            raise ProgramError("too_many_shots", f"expected 1 … {MAX_SHOTS} shots, got {shots}")
        n, ops = prepared.plan.num_qubits, max(len(prepared.plan.ops), 1)
        runs, amplitudes, live = self._size(prepared, shots)
        state_bytes = 0 if prepared.method in ("stabilizer", "constant") else live * 8 * amplitudes
        memory = (
            state_bytes
            + _BYTES_PER_OP * prepared.num_ops
            + _BYTES_PER_SHOT * shots
            + shots * (-(-task.circuit.num_clbits // 8))
            + _BASE_BYTES
        )
        if prepared.method == "stabilizer":
            recorded = len(prepared.plan.final) + len(prepared.plan.stops)
            memory += 4 * n * n + 3 * min(shots, stabilizer.CHUNK_SHOTS) * (recorded + task.circuit.num_clbits)
            by_shot = bool(prepared.plan.conditions)
            seconds = _SECONDS_PER_RUN + ops * 1e-6 + (shots if by_shot else shots / 256) * ops * 2e-7 * max(1, n / 64)
        else:
            per_run = _SECONDS_PER_RUN + ops * (_SECONDS_PER_OP + amplitudes * _SECONDS_PER_OP_AMPLITUDE)
            seconds = runs * per_run + amplitudes * 2e-9
        seconds += shots * _SECONDS_PER_SHOT
        if memory > _ALWAYS_FREE_BYTES and memory > _SAFE_SHARE * (free := available_bytes()):
            raise ProgramError(
                "too_many_qubits" if state_bytes > memory // 2 else "too_much_memory",
                f"the result depends on {n} qubits and takes {memory >> 20} MiB; {max(free, 0) >> 20} MiB are free",
            )
        return QpuEstimate(memory, seconds, prepared.method)

    def _size(self, prepared: Prepared, shots: int) -> tuple[float, int, int]:
        """Return `(runs of the whole circuit, amplitudes of a state, states alive at once)`."""
        n = prepared.plan.num_qubits
        if prepared.method == "density_matrix":
            measures = sum(1 for stop in prepared.plan.stops if prepared.plan.ops[stop][0] == MEASURE)
            groups = min(1 << min(measures, 40), shots)
            return groups * 3.0, 1 << 2 * n, 4 + groups.bit_length()
        runs = float(min(prepared.branches, shots))
        if prepared.method == "trajectories":
            clean = 1.0
            for site in prepared.sites:
                clean *= 1 - min(event_probability(site, self.device), 1.0)
            runs += shots * (1 - clean)
        if prepared.method == "state_vector":
            # qsim samples from its own state; elsewhere the state, its weights and their sums exist at once
            live = 1 if self.backend.name == "qsim" else 4
        else:
            live = 3 + min(len(prepared.plan.stops) + 1, shots.bit_length())
        return runs, 1 << n, live

    def run(self, task: QpuTask, cancelled: Callable[[], bool]) -> QpuResult:
        """Run a task; raises `ProgramError`, or `CancelledError` where it was asked to end."""
        started = time.perf_counter()
        self.estimate(task)
        prepared = self.prepare(task.circuit)
        planned = time.perf_counter()
        rng = np.random.default_rng(task.seed)
        counts = self._counts(prepared, task.shots, rng, cancelled)
        readout = [*prepared.plan.final, *prepared.plan.idle]
        counts = flip_bits(counts, readout, self.device.readout_error, rng)
        metadata: dict[str, PropertyValue] = {
            "method": prepared.method,
            "backend": "stim" if prepared.method == "stabilizer" else self.backend.name,
            "qubits": prepared.plan.num_qubits,
            "operations": len(prepared.plan.ops),
            "noisy": self.device.noisy or self.device.readout_error > 0,
            "plan_s": planned - started,
            "kernel_s": time.perf_counter() - planned,
        }
        if prepared.sites and self._twirled(prepared.method):
            metadata["approximation"] = "relaxation as its Pauli twirl"
        return QpuResult(counts, task.shots, metadata)

    def _twirled(self, method: str) -> bool:
        if not self.device.decays:
            return False
        return method == "stabilizer" or (method == "trajectories" and self.device.t2_us > self.device.t1_us)

    def _counts(
        self, prepared: Prepared, shots: int, rng: np.random.Generator, cancelled: Callable[[], bool]
    ) -> dict[int, int]:
        reduced, sites = prepared.plan, prepared.sites
        if prepared.method == "constant":
            return {0: shots}
        if prepared.method == "state_vector":
            return count(reduced, [(0, self.backend.sample(reduced.num_qubits, reduced.ops, shots, rng))])
        if prepared.method == "stabilizer":
            return stabilizer.run(reduced, sites, self.device, shots, int(rng.integers(1 << 62)), cancelled)
        leaves: list[Leaf]
        if prepared.method == "density_matrix":
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
