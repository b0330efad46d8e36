"""qsim called through its own bindings: the one place that knows them.

`qsimcirq` builds a cirq circuit, walks it several times and unpacks every shot in Python, which costs up to 50 times
the kernel. The extension module alone loads in milliseconds without cirq. It is a private interface, so a self-test
decides whether it is used; the version is pinned in `pyproject.toml`.

Operation times are the running index of the operation: always legal, same kernel speed as parallel times.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.dense import MATRIX, State, apply_ops, zero_state
from qedge_drivers.sim_qpu.fusion import Fusion
from qedge_drivers.sim_qpu.gates import controlled, gate_matrix
from qedge_drivers.sim_qpu.program import Bound, Structure, params_of, structure_of

_PERIOD: Final = 4 * math.pi
"""Angles are reduced by it: they are cast to float32, which has no digits left for large ones."""
_FUSED_QUBITS: Final = 2
_INSTRUCTION_SETS: Final[Mapping[int, str]] = {0: "avx512", 1: "avx2", 2: "sse"}
_WORTH_MERGING: Final = 100
"""Operations that have to go away for merging to take less time than it saves."""
_KEPT_OPERATIONS: Final = 20_000
"""The structure of a circuit beyond this is not kept, and it runs longer than merging could spare."""
_KEPT_STRUCTURES: Final = 4
_EXTRA_CONTROLS_AS_MATRIX: Final = 3
"""Controlled gates on up to so many qubits go in as a matrix: qsim does not fuse its own controlled gates."""


class NativeUnavailableError(Exception):
    """The bindings are not there, or do not behave as they did when this module was written."""


def _load(folder: Path, stem: str) -> ModuleType:
    # the suffix list is this interpreter's own, so a module of another one is never loaded
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = folder / f"{stem}{suffix}"
        if path.exists():
            spec = importlib.util.spec_from_file_location(f"qsimcirq.{stem}", path)
            if spec is None or spec.loader is None:
                break
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise NativeUnavailableError(f"{folder} holds no {stem} for this interpreter")


def load_qsim() -> ModuleType:
    """Load qsim's extension for this CPU without importing cirq; raises `NativeUnavailableError`."""
    spec = importlib.util.find_spec("qsimcirq")
    if spec is None or spec.origin is None:
        raise NativeUnavailableError("qsimcirq is not installed")
    folder = Path(spec.origin).parent
    try:
        level = _load(folder, "qsim_decide").detect_instructions()
        return _load(folder, f"qsim_{_INSTRUCTION_SETS.get(level, 'basic')}")
    except (ImportError, AttributeError) as error:
        raise NativeUnavailableError(str(error)) from error


class NativeBackend:
    """The kernel of qsim. Its state is complex64; qubit q is qsim's qubit q, so samples come back little-endian."""

    name = "qsim"

    def __init__(self) -> None:
        self._qsim: Any = load_qsim()  # untyped extension
        try:
            self._kinds = self._plain_kinds()
            self._rotated: dict[int, Any] = {Gate.RX: self._qsim.krx, Gate.RY: self._qsim.kry, Gate.RZ: self._qsim.krz}
            self._turned = self._turned_kinds()
            self._fusions: list[tuple[Structure, Fusion]] = []
            self._self_test()
        except NativeUnavailableError:
            raise
        except Exception as error:  # whatever a changed binding raises means the same: do not use it
            raise NativeUnavailableError(f"self-test: {error}") from error

    def _plain_kinds(self) -> dict[int, Any]:
        q = self._qsim
        return {
            Gate.X: q.kX,
            Gate.Y: q.kY,
            Gate.Z: q.kZ,
            Gate.H: q.kH,
            Gate.S: q.kS,
            Gate.T: q.kT,
            Gate.CX: q.kCX,
            Gate.CZ: q.kCZ,
            Gate.SWAP: q.kSWAP,
            Gate.ISWAP: q.kISWAP,
            Gate.CCX: q.kCCX,
            Gate.CCZ: q.kCCZ,
            Gate.CSWAP: q.kCSwapGate,
        }

    def _turned_kinds(self) -> dict[int, tuple[Any, float]]:
        """Return kinds that turn by half turns, with the `global_shift` that makes phases or rotations of them."""
        q = self._qsim
        return {
            Gate.P: (q.kZPowGate, 0.0),
            Gate.CP: (q.kCZPowGate, 0.0),
            Gate.RXX: (q.kXXPowGate, -0.5),
            Gate.RYY: (q.kYYPowGate, -0.5),
            Gate.RZZ: (q.kZZPowGate, -0.5),
        }

    def _circuit(self, num_qubits: int, ops: Sequence[Op]) -> Any:  # a qsim circuit
        circuit = self._qsim.Circuit()
        circuit.num_qubits = num_qubits
        fusion = self._fusion_of(ops) if _WORTH_MERGING <= len(ops) <= _KEPT_OPERATIONS else None
        if fusion is None:
            self._add(circuit, ops, 0)
            return circuit
        add_matrix = self._qsim.add_matrix_gate
        small, large = fusion.matrices(params_of(ops))
        for time, (qubits, size, place) in enumerate(fusion.steps):
            if size == 2:
                add_matrix(time, qubits, large[32 * place : 32 * place + 32], circuit)
            elif size == 1:
                add_matrix(time, qubits, small[8 * place : 8 * place + 8], circuit)
            else:
                self._add(circuit, (ops[place],), time)
        return circuit

    def _fusion_of(self, ops: Sequence[Op]) -> Fusion | None:
        """Return how to merge operations; None where that gains nothing.

        Merged matrices are rounded otherwise than their operations, which can turn a sample. So whether they are merged
        follows from the circuit alone, never from what ran before: a seed gives the same counts every time.
        """
        structure = ops.structure if isinstance(ops, Bound) else structure_of(ops)
        # to compare structures takes less than to hash one, and nothing where it is the same object
        found = next((entry for entry in self._fusions if entry[0] == structure), None)
        if found is None:
            found = (structure, Fusion(ops))
            self._fusions = [found, *self._fusions[: _KEPT_STRUCTURES - 1]]
        elif found is not self._fusions[0]:
            self._fusions = [found, *(entry for entry in self._fusions if entry is not found)]
        fusion = found[1]
        return fusion if len(ops) - len(fusion.steps) >= _WORTH_MERGING else None

    def _add(self, circuit: Any, ops: Sequence[Op], begin: int) -> None:  # a qsim circuit
        qsim = self._qsim
        add_gate, add_matrix = qsim.add_gate, qsim.add_matrix_gate
        kinds, rotated, turned, fmod = self._kinds, self._rotated, self._turned, math.fmod
        nothing: dict[str, float] = {}
        matrices: dict[tuple[int, tuple[float, ...]], list[float]] = {}
        for time, (gate, qubits, params, controls) in enumerate(ops, begin):
            if controls:
                self._add_controlled(circuit, time, (gate, qubits, params, controls))
            elif (kind := kinds.get(gate)) is not None:
                add_gate(kind, time, qubits, nothing, circuit)
            elif (kind := rotated.get(gate)) is not None:
                add_gate(kind, time, qubits, {"phi": fmod(params[0], _PERIOD)}, circuit)
            elif (pair := turned.get(gate)) is not None:
                half_turns = fmod(params[0], _PERIOD) / math.pi
                add_gate(pair[0], time, qubits, {"exponent": half_turns, "global_shift": pair[1]}, circuit)
            elif gate == MATRIX:
                add_matrix(time, qubits, params, circuit)
            else:
                flat = matrices.get((gate, params))
                if flat is None:
                    flat = matrices[gate, params] = _flat(gate_matrix(gate, params))
                add_matrix(time, qubits, flat, circuit)

    def _add_controlled(self, circuit: Any, time: int, op: Op) -> None:
        gate, qubits, params, controls = op
        matrix = gate_matrix(gate, params)
        own = list(qubits[controls:])
        if len(qubits) <= _EXTRA_CONTROLS_AS_MATRIX:
            self._qsim.add_matrix_gate(time, list(qubits), _flat(controlled(matrix, controls)), circuit)
            return
        if not own:
            # a controlled global phase is a phase gate on the last control
            matrix = np.diag([1, matrix[0, 0]]).astype(np.complex128)
            controls, own = controls - 1, [qubits[-1]]
        self._qsim.add_matrix_gate(time, own, _flat(matrix), circuit)
        self._qsim.control_last_gate(list(qubits[:controls]), [1] * controls, circuit)

    def _options(self, circuit: Any, seed: int) -> dict[str, Any]:
        return {
            "c": circuit,
            "f": _FUSED_QUBITS,
            "t": 1,
            "s": seed,
            "v": 0,
            "z": False,
            "r": 1,
            "g": False,
            "gmode": 0,
            "gsst": 512,
            "gdb": 16,
        }

    def evolve(self, num_qubits: int, ops: Sequence[Op], state: State | None) -> State:
        """See `Backend.evolve`."""
        if not ops:
            return zero_state(num_qubits) if state is None else state
        start: Any = 0 if state is None else np.ascontiguousarray(state).view(np.float32)
        out = self._qsim.qsim_simulate_fullstate(self._options(self._circuit(num_qubits, ops), 0), start)
        amplitudes = np.asarray(out, dtype=np.float32).view(np.complex64)
        if len(amplitudes) != 1 << num_qubits:
            raise RuntimeError("qsim returned no state")
        return amplitudes

    def sample(self, num_qubits: int, ops: Sequence[Op], shots: int, rng: np.random.Generator) -> Sequence[int]:
        """See `Backend.sample`; indices come back ascending."""
        seed = int(rng.integers(1 << 32))
        circuit = self._circuit(num_qubits, ops)
        drawn: list[int] = self._qsim.qsim_sample_final(self._options(circuit, seed), shots)
        if len(drawn) != shots:
            # a fault inside qsim goes to stderr and returns an empty list
            raise RuntimeError(f"qsim returned {len(drawn)} of {shots} samples")
        return drawn

    def _self_test(self) -> None:
        """Compare with numpy: order of qubits, of matrix rows and of samples; controls; start from a given state."""
        x_on_last: Op = (Gate.X, (2,), (), 0)
        if set(self.sample(3, [x_on_last], 7, np.random.default_rng(1))) != {4}:
            raise NativeUnavailableError("self-test: qubits come back in another order")
        ops: list[Op] = [
            (Gate.H, (0,), (), 0),
            (Gate.CRY, (0, 2), (0.7,), 0),
            (Gate.U, (1,), (0.3, 1.1, -0.4), 0),
            (Gate.CP, (1, 2), (0.9,), 0),
            (Gate.RZZ, (0, 1), (9.0,), 0),
            (Gate.SX, (3,), (), 0),
            (Gate.X, (0, 1, 3, 2), (), 3),
            (Gate.ISWAP, (3, 1), (), 0),
        ]
        first = self.evolve(4, ops[:3], None)
        expected = apply_ops(4, ops, zero_state(4))
        overlap = abs(np.vdot(self.evolve(4, ops[3:], first), expected))
        if not math.isclose(overlap, 1.0, abs_tol=1e-5):
            raise NativeUnavailableError(f"self-test: the state is wrong (overlap {overlap:.6f})")


def _flat(matrix: np.ndarray[tuple[int, ...], np.dtype[np.complex128]]) -> list[float]:
    flat: list[float] = np.ascontiguousarray(matrix).view(np.float64).ravel().tolist()
    return flat
