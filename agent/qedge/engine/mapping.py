"""Circuits for devices whose qubits are not all coupled: decomposed and routed by qiskit, where that is installed.

A circuit that fits as it stands is left alone. Everything else is given to qiskit's level 3, which tries embeddings
without swaps before it routes (VF2, then SABRE, Li et al., arXiv:1809.02573). Classical bits keep their meaning, so
results need no translation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qedge.base.errors import QedgeError
from qedge_driver_api import FlatCircuit, Gate
from qedge_driver_api.circuit import Op

_MEASURE: Final = int(Gate.MEASURE)
_RESET: Final = int(Gate.RESET)
_BARRIER: Final = int(Gate.BARRIER)
_BASIS: Final = ("u", "cx")
_SEED: Final = 7
_MAX_OPERATIONS: Final = 50_000
_NAMES: Final[Mapping[int, str]] = {
    Gate.ID: "IGate", Gate.X: "XGate", Gate.Y: "YGate", Gate.Z: "ZGate", Gate.H: "HGate", Gate.S: "SGate",
    Gate.SDG: "SdgGate", Gate.T: "TGate", Gate.TDG: "TdgGate", Gate.SX: "SXGate", Gate.SXDG: "SXdgGate",
    Gate.RX: "RXGate", Gate.RY: "RYGate", Gate.RZ: "RZGate", Gate.P: "PhaseGate", Gate.U: "UGate", Gate.CX: "CXGate",
    Gate.CY: "CYGate", Gate.CZ: "CZGate", Gate.CH: "CHGate", Gate.CP: "CPhaseGate", Gate.CRX: "CRXGate",
    Gate.CRY: "CRYGate", Gate.CRZ: "CRZGate", Gate.CU: "CUGate", Gate.SWAP: "SwapGate", Gate.ISWAP: "iSwapGate",
    Gate.RXX: "RXXGate", Gate.RYY: "RYYGate", Gate.RZZ: "RZZGate", Gate.CCX: "CCXGate", Gate.CCZ: "CCZGate",
    Gate.CSWAP: "CSwapGate",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mapped:
    """A circuit that a device can run, with how many two-qubit gates it had and has."""

    circuit: FlatCircuit
    pairs_before: int
    pairs_after: int


def fits(circuit: FlatCircuit, coupling: Iterable[tuple[int, int]], num_qubits: int) -> bool:
    """Tell whether every gate acts on one qubit or on a coupled pair of the device; an empty coupling allows all."""
    return _misfit(circuit, coupling, num_qubits) is None


def _misfit(circuit: FlatCircuit, coupling: Iterable[tuple[int, int]], num_qubits: int) -> tuple[int, ...] | None:
    pairs = {frozenset(pair) for pair in coupling}
    for gate, qubits, _, _ in circuit.ops if pairs else ():
        if gate == _BARRIER or not qubits:
            continue
        coupled = len(qubits) == 1 or (len(qubits) == 2 and frozenset(qubits) in pairs)
        if not coupled or max(qubits) >= num_qubits:
            return qubits
    return None


def map_to(circuit: FlatCircuit, coupling: Sequence[tuple[int, int]], num_qubits: int) -> Mapped:
    """Return the circuit for a device; raises `circuit.unsupported`, `circuit.too_many_qubits`."""
    used = 1 + max((qubit for _, qubits, _, _ in circuit.ops for qubit in qubits), default=0)
    if used > num_qubits:
        raise QedgeError(
            "circuit.too_many_qubits",
            f"The program uses {used} qubits, the device has {num_qubits}.",
            fix="Use another device.",
            qubits=used,
            fits_qubits=num_qubits,
        )
    qubits = _misfit(circuit, coupling, num_qubits) or ()
    if circuit.conditions:
        raise _unfit(qubits, "it decides on the way, and such programs are not routed")
    if len(circuit.ops) > _MAX_OPERATIONS:
        raise _unfit(qubits, f"it has more than {_MAX_OPERATIONS} operations, and such programs are not routed")
    try:
        from qiskit import transpile
        from qiskit.transpiler import CouplingMap
    except ImportError as error:
        raise _unfit(qubits, "qiskit is not installed, which would route it") from error
    graph = [edge for one, other in coupling for edge in ((one, other), (other, one))]
    routed = transpile(
        _to_qiskit(circuit, used),
        basis_gates=list(_BASIS),
        coupling_map=CouplingMap(graph),
        optimization_level=3,
        seed_transpiler=_SEED,
    )
    ops = _from_qiskit(routed)
    mapped = FlatCircuit(num_qubits, circuit.num_clbits, ops)
    return Mapped(mapped, _pairs(circuit.ops), _pairs(ops))


def _unfit(qubits: tuple[int, ...], why: str) -> QedgeError:
    return QedgeError(
        "circuit.unsupported",
        f"The device does not couple qubits {' and '.join(map(str, qubits))} as the program does: {why}.",
        fix="Write it for the device's coupling, or install qedge[map].",
        construct="coupling",
    )


def _pairs(ops: Iterable[Op]) -> int:
    return sum(1 for gate, qubits, _, _ in ops if gate < _MEASURE and len(qubits) > 1)


def _to_qiskit(circuit: FlatCircuit, num_qubits: int) -> Any:  # a qiskit QuantumCircuit
    from qiskit import QuantumCircuit
    from qiskit.circuit import library

    made = QuantumCircuit(num_qubits, circuit.num_clbits)
    for gate, qubits, params, arg in circuit.ops:
        if gate == _MEASURE:
            made.measure(qubits[0], arg)
        elif gate == _RESET:
            made.reset(qubits[0])
        elif gate == _BARRIER:
            made.barrier(*qubits)
        elif gate == Gate.GPHASE:
            # under one control it is a phase gate on that control, under more a controlled one
            own = library.PhaseGate(params[0])
            made.append(own if arg == 1 else own.control(arg - 1), qubits)
        else:
            own = getattr(library, _NAMES[gate])(*params)
            made.append(own.control(arg) if arg else own, qubits)
    return made


def _from_qiskit(circuit: Any) -> tuple[Op, ...]:  # a qiskit QuantumCircuit
    place = {bit: index for index, bit in enumerate(circuit.qubits)}
    clbit = {bit: index for index, bit in enumerate(circuit.clbits)}
    codes = {"u": int(Gate.U), "cx": int(Gate.CX)}
    ops: list[Op] = []
    for row in circuit.data:
        name, qubits = row.operation.name, tuple(place[bit] for bit in row.qubits)
        if name == "measure":
            ops.append((_MEASURE, qubits, (), clbit[row.clbits[0]]))
        elif name in ("reset", "barrier"):
            ops.append((_RESET if name == "reset" else _BARRIER, qubits, (), 0))
        else:
            ops.append((codes[name], qubits, tuple(float(value) for value in row.operation.params), 0))
    return tuple(ops)
