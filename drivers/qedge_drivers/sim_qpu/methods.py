"""Which method runs a circuit: the fastest one that is exact for the device, or the one that was asked for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from qedge_driver_api import ProgramError, PropertyValue
from qedge_drivers.sim_qpu.entanglement import Chain, arrange
from qedge_drivers.sim_qpu.program import Plan, is_clifford
from qedge_drivers.sim_qpu.settings import Device

CONSTANT: Final = "constant"
STATE_VECTOR: Final = "state_vector"
BRANCHING: Final = "branching"
DENSITY_MATRIX: Final = "density_matrix"
TRAJECTORIES: Final = "trajectories"
STABILIZER: Final = "stabilizer"
MPS: Final = "mps"
METHODS: Final = (STATE_VECTOR, BRANCHING, DENSITY_MATRIX, TRAJECTORIES, STABILIZER, MPS)
"""What `options["method"]` may name; `auto` and the empty string choose."""

MAX_STATE_QUBITS: Final = 30
"""Widest state vector, whatever the memory."""
MAX_DENSITY_QUBITS: Final = 8
"""Widest density matrix that is chosen for a noisy device; above, noise is drawn shot by shot."""
_MAX_DENSITY_ASKED: Final = 12
_DENSITY_ARITY: Final = 3
STABILIZER_FROM: Final = 17
"""Clifford circuits on fewer qubits run as state vectors, which are as fast there."""
_NOISY_STABILIZER_FROM: Final = 21
_MPS_FROM: Final = 20
"""On fewer qubits the state vector is faster, whatever the entanglement."""
_EXACT_LOG_BOND: Final = 4
_MAX_BOND: Final = 4096
DEFAULT_BOND: Final = 64
DEFAULT_FIDELITY: Final = 0.99


@dataclass(frozen=True, slots=True)
class Wish:
    """What a task asks for: a method (empty: choose), the largest bond and the least fidelity of matrix products."""

    method: str = ""
    max_bond: int = DEFAULT_BOND
    min_fidelity: float = DEFAULT_FIDELITY


def read_wish(options: Mapping[str, PropertyValue]) -> Wish:
    """Read the options of a task; raises `ProgramError` for one that is unknown or out of range."""
    unknown = sorted(set(options) - {"method", "max_bond", "min_fidelity"})
    if unknown:
        raise ProgramError(
            "bad_option", f"there is no option {unknown[0][:40]}; there are method, max_bond, min_fidelity"
        )
    method = options.get("method", "")
    if method in ("", "auto"):
        method = ""
    elif method not in METHODS:
        raise ProgramError("bad_option", f"there is no method {method!s:.40}; there are {', '.join(METHODS)}")
    max_bond = options.get("max_bond", DEFAULT_BOND)
    if not isinstance(max_bond, int) or isinstance(max_bond, bool) or not 1 <= max_bond <= _MAX_BOND:
        raise ProgramError("bad_option", f"max_bond is a whole number from 1 to {_MAX_BOND}")
    fidelity = options.get("min_fidelity", DEFAULT_FIDELITY)
    if isinstance(fidelity, bool) or not isinstance(fidelity, (int, float)) or not 0 <= fidelity <= 1:
        raise ProgramError("bad_option", "min_fidelity is a number from 0 to 1")
    return Wish(str(method), max_bond, float(fidelity))


@dataclass(frozen=True, slots=True)
class Choice:
    """The method, and for matrix products the order of the qubits."""

    method: str
    chain: Chain | None = None


def choose(reduced: Plan, device: Device, wish: Wish, *, has_stim: bool, fits: Callable[[int], bool]) -> Choice:
    """Choose how to run a reduced circuit; `fits(n)` tells whether a state vector of n qubits fits into memory.

    Raises `ProgramError` where no method, or not the one that is asked for, can run it.
    """
    if reduced.num_qubits == 0:
        return Choice(CONSTANT)
    if wish.method:
        return _named(reduced, device, wish.method, has_stim=has_stim)
    n, noisy = reduced.num_qubits, device.noisy
    clifford = has_stim and n >= STABILIZER_FROM and is_clifford(reduced.ops)
    if clifford and (n >= _NOISY_STABILIZER_FROM or not noisy):
        return Choice(STABILIZER)
    fitting = n <= MAX_STATE_QUBITS and fits(n)
    if n >= _MPS_FROM and not noisy and not reduced.stops:
        chain = arrange(n, reduced.ops)
        if not fitting or chain.log_bond <= _EXACT_LOG_BOND:
            return Choice(MPS, chain)
    if n > MAX_STATE_QUBITS:
        raise ProgramError(
            "too_many_qubits",
            f"the result depends on {n} qubits; a state of more than {MAX_STATE_QUBITS} is not held. Wider may be: "
            "Clifford circuits, and circuits of little entanglement without noise that measure at the end",
        )
    if noisy:
        small = n <= MAX_DENSITY_QUBITS and all(len(op[1]) <= _DENSITY_ARITY for op in reduced.ops)
        return Choice(DENSITY_MATRIX if small else TRAJECTORIES)
    return Choice(BRANCHING if reduced.stops else STATE_VECTOR)


def _named(reduced: Plan, device: Device, method: str, *, has_stim: bool) -> Choice:
    n = reduced.num_qubits
    chain: Chain | None = None
    reason = ""
    if method == STABILIZER:
        reason = "" if is_clifford(reduced.ops) else "it has gates that are no Clifford gates"
        reason = reason if has_stim else "stim is not installed"
    elif method == MPS:
        chain = arrange(n, reduced.ops)
        reason = _not_plain(reduced, device)
    elif method == DENSITY_MATRIX:
        if n > _MAX_DENSITY_ASKED or any(len(op[1]) > _DENSITY_ARITY for op in reduced.ops):
            reason = f"it holds at most {_MAX_DENSITY_ASKED} qubits and gates on {_DENSITY_ARITY}"
    elif n > MAX_STATE_QUBITS:
        reason = f"the result depends on {n} qubits, and a state holds {MAX_STATE_QUBITS}"
    elif method == STATE_VECTOR:
        reason = _not_plain(reduced, device)
    elif method == BRANCHING and device.noisy:
        reason = "the device is noisy"
    if reason:
        raise ProgramError("unsupported", f"the method {method} does not run this: {reason}")
    return Choice(method, chain)


def _not_plain(reduced: Plan, device: Device) -> str:
    if device.noisy:
        return "the device is noisy"
    return "it measures, resets or decides before its end" if reduced.stops else ""
