"""Circuits too wide for a state vector, run as matrix product states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from qedge_driver_api import ProgramError, PropertyValue
from qedge_drivers.sim_qpu.counts import add_counts, count_rows
from qedge_drivers.sim_qpu.entanglement import Chain
from qedge_drivers.sim_qpu.gates import gate_matrix
from qedge_drivers.sim_qpu.methods import Wish
from qedge_drivers.sim_qpu.mpo import gate_factors
from qedge_drivers.sim_qpu.mps import MatrixProduct
from qedge_drivers.sim_qpu.program import BARRIER, Plan

_CHUNK_SHOTS: Final = 16_384


def evolve(plan: Plan, chain: Chain, wish: Wish, cancelled: Callable[[], bool]) -> MatrixProduct:
    """Run the gates of a plan; raises `ProgramError` as soon as the fidelity falls below the one that is asked for."""
    state = MatrixProduct(plan.num_qubits, wish.max_bond, cancelled)
    sites = chain.sites
    for op in plan.ops:
        gate, qubits, params, _ = op
        if gate == BARRIER or not qubits:
            continue
        if len(qubits) == 1:
            state.turn(sites[qubits[0]], gate_matrix(gate, params))
        else:
            state.apply(gate_factors(op, [sites[qubit] for qubit in qubits]))
            _check_fidelity(state, wish)
    state.finish()
    _check_fidelity(state, wish)
    return state


def _check_fidelity(state: MatrixProduct, wish: Wish) -> None:
    if state.fidelity_bound < wish.min_fidelity:
        raise ProgramError(
            "too_entangled",
            f"the state is too entangled: with bonds of at most {wish.max_bond} less than {wish.min_fidelity:g} of it "
            "is left; ask for the method mps with a larger max_bond, or allow a smaller min_fidelity",
        )


def run(
    plan: Plan,
    chain: Chain,
    wish: Wish,
    shots: int,
    rng: np.random.Generator,
    cancelled: Callable[[], bool],
    metadata: dict[str, PropertyValue],
) -> Mapping[int, int]:
    """Return counts, and in `metadata` what was cut away: `max_bond`, `discarded_weight`, `fidelity_bound`."""
    state = evolve(plan, chain, wish, cancelled)
    metadata |= {
        "max_bond": state.largest_bond,
        "discarded_weight": state.discarded_weight,
        "fidelity_bound": state.fidelity_bound,
    }
    columns = {clbit: chain.sites[qubit] for clbit, qubit in plan.final.items()}
    parts = []
    for start in range(0, shots, _CHUNK_SHOTS):
        rows = np.packbits(state.sample(min(_CHUNK_SHOTS, shots - start), rng), axis=1, bitorder="little")
        parts.append(count_rows(rows, columns, plan.num_qubits, plan.num_clbits))
    return add_counts(parts)
