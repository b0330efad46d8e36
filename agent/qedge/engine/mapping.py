"""Circuits for devices whose qubits are not all coupled: simplified, decomposed and routed by qiskit, if it is there.

A circuit that fits as it stands is left alone. Any other is simplified first, which may be enough; if not, qiskit's
level 3 embeds it without swaps where that can be done (VF2) and routes it where not (SABRE, Li et al.,
arXiv:1809.02573), from several seeds, of which the best is taken. Classical bits keep their meaning, so results need no
translation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qedge.base.errors import QedgeError
from qedge_driver_api import FlatCircuit, Gate, QpuProperties
from qedge_driver_api.circuit import Op

_MEASURE: Final = int(Gate.MEASURE)
_RESET: Final = int(Gate.RESET)
_BARRIER: Final = int(Gate.BARRIER)
_BASIS: Final = ("u", "cx")
_READOUT: Final = "measure"
_SEEDS: Final = tuple(range(8))
_ALL_UP_TO: Final = 150
"""Two-qubit gates of a circuit that is routed from all seeds; two of them for four times as many, then one."""
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


Errors = Mapping[tuple[int, ...], float]
"""Chance that a gate on a qubit or a pair (lower qubit first), or a measurement (`(qubit, -1)`), goes wrong."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A circuit that a device can run, with how many two-qubit gates it had and has.

    Qubit q of the program begins on qubit `begins[q]` of the device and ends on `ends[q]`, up to the last that the
    program uses; others begin and end in |0⟩.
    """

    circuit: FlatCircuit
    pairs_before: int
    pairs_after: int
    begins: tuple[int, ...]
    ends: tuple[int, ...]


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


def map_to(
    circuit: FlatCircuit, coupling: Sequence[tuple[int, int]], num_qubits: int, errors: Errors | None = None
) -> Mapped:
    """Return the circuit for a device; raises `circuit.unsupported`, `circuit.too_many_qubits`.

    An empty coupling allows all pairs, and nothing is left to do but to simplify. With `errors`, what goes wrong least
    is taken, otherwise what has the fewest two-qubit gates.
    """
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
        import qiskit  # noqa: F401 # whether it is there is what matters here
    except ImportError as error:
        raise _unfit(qubits, "qiskit is not installed, which would route it") from error
    before, made = _pairs(circuit.ops), _to_qiskit(circuit, used)
    simple = _transpiled(made, None, _SEEDS[0])
    plain = _mapped(simple, circuit, num_qubits, before)
    fitting = fits(plain.circuit, coupling, num_qubits)
    if fitting and not (coupling and errors):
        return plain
    target = _target(coupling, num_qubits, errors)
    cost = _cost_of(errors)
    best, least = (plain, cost(plain)) if fitting else (None, math.inf)
    for seed in _seeds(plain.pairs_after):
        # now and then what was simplified too early routes worse, so the first seed takes the program as it came
        start, first = (simple, plain) if seed else (made, None)
        found = _mapped(_transpiled(start, target, seed), circuit, num_qubits, before, first)
        if cost(found) < least:
            best, least = found, cost(found)
        if not errors and found.pairs_after <= plain.pairs_after:
            break
    if best is None:
        raise _unfit(qubits, "no way to route it was found")
    return best


def errors_of(device: QpuProperties) -> Errors:
    """Return what a device tells of its places; nothing where all are alike, for then counting gates says as much.

    The best operation of a place stands for all: it is the one that gates are made of.
    """
    found: dict[tuple[int, ...], float] = {(site.index, -1): site.readout_error for site in device.sites}
    for each in device.operations:
        for row in each.at:
            place = (row.qubits[0], -1) if each.name == _READOUT else tuple(sorted(row.qubits))
            if row.fidelity > 0 and len(place) <= 2:
                found[place] = min(1 - row.fidelity, found.get(place, 1.0))
    varied = len({(len(place), place[-1] < 0, error) for place, error in found.items()})
    return found if varied > len({(len(place), place[-1] < 0) for place in found}) else {}


def _seeds(pairs: int) -> tuple[int, ...]:
    if pairs <= _ALL_UP_TO:
        return _SEEDS
    return _SEEDS[:2] if pairs <= 4 * _ALL_UP_TO else _SEEDS[:1]


def _cost_of(errors: Errors | None) -> Callable[[Mapped], float]:
    """Return what makes one circuit worse than another: −ln of the chance that all goes well, or two-qubit gates."""
    if not errors:
        return lambda mapped: float(mapped.pairs_after)

    def cost(mapped: Mapped) -> float:
        total = 0.0
        for gate, qubits, _, _ in mapped.circuit.ops:
            if gate != _BARRIER:
                place = (qubits[0], -1) if gate == _MEASURE else tuple(sorted(qubits))
                error = errors.get(place, 0.0)
                total -= math.log(max(1e-9, 1 - error))
        return total

    return cost


def _transpiled(made: Any, target: Any, seed: int) -> Any:  # qiskit QuantumCircuits and a Target
    from qiskit import transpile

    where = {"basis_gates": list(_BASIS)} if target is None else {"target": target}
    return transpile(made, optimization_level=3, seed_transpiler=seed, **where)


def _target(coupling: Sequence[tuple[int, int]], num_qubits: int, errors: Errors | None) -> Any:  # a qiskit Target
    from qiskit.circuit import Measure, Parameter, Reset, library
    from qiskit.transpiler import InstructionProperties, Target

    def told(place: tuple[int, ...]) -> Any:  # InstructionProperties
        error = (errors or {}).get(place if place[-1] < 0 else tuple(sorted(place)))
        return None if error is None else InstructionProperties(error=error)

    target = Target(num_qubits=num_qubits)
    singles = [(qubit,) for qubit in range(num_qubits)]
    target.add_instruction(library.UGate(*map(Parameter, "abc")), {place: told(place) for place in singles})
    target.add_instruction(Measure(), {place: told((*place, -1)) for place in singles})
    target.add_instruction(Reset(), dict.fromkeys(singles))
    pairs = [pair for one, other in coupling for pair in ((one, other), (other, one))]
    target.add_instruction(library.CXGate(), {pair: told(pair) for pair in pairs})
    return target


def _mapped(made: Any, circuit: FlatCircuit, num_qubits: int, before: int, first: Mapped | None = None) -> Mapped:
    """Read a circuit of qiskit back; `first` is what led to what it was made of."""
    ops, layout = _from_qiskit(made), made.layout
    begins = tuple(range(made.num_qubits)) if layout is None else tuple(layout.initial_index_layout(True))
    ends = tuple(range(made.num_qubits)) if layout is None else tuple(layout.final_index_layout(True))
    if first is not None:
        begins, ends = tuple(begins[q] for q in first.begins), tuple(ends[q] for q in first.ends)
    return Mapped(FlatCircuit(num_qubits, circuit.num_clbits, ops), before, _pairs(ops), begins, ends)


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
