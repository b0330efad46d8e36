"""Clifford circuits of any width, run by stim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.branching import CancelledError
from qedge_drivers.sim_qpu.counts import add_counts, count_rows
from qedge_drivers.sim_qpu.noise import Kind, Site, twirled_probabilities
from qedge_drivers.sim_qpu.program import IF, MEASURE, RESET, Plan, holds, quarter_turns
from qedge_drivers.sim_qpu.settings import Device

CHUNK_SHOTS: Final = 16_384
"""Shots sampled at once: a recorded bit takes a byte until it is counted."""

_NAMES: Final[Mapping[int, str]] = {
    Gate.ID: "I",
    Gate.X: "X",
    Gate.Y: "Y",
    Gate.Z: "Z",
    Gate.H: "H",
    Gate.S: "S",
    Gate.SDG: "S_DAG",
    Gate.SX: "SQRT_X",
    Gate.SXDG: "SQRT_X_DAG",
    Gate.CX: "CX",
    Gate.CY: "CY",
    Gate.CZ: "CZ",
    Gate.SWAP: "SWAP",
    Gate.ISWAP: "ISWAP",
    MEASURE: "M",
    RESET: "R",
}
_X_TURNS: Final = ("I", "SQRT_X", "X", "SQRT_X_DAG")
_Y_TURNS: Final = ("I", "SQRT_Y", "Y", "SQRT_Y_DAG")
_Z_TURNS: Final = ("I", "S", "Z", "S_DAG")
_ONE_QUBIT_TURNS: Final = {Gate.RX: _X_TURNS, Gate.RY: _Y_TURNS, Gate.RZ: _Z_TURNS, Gate.P: _Z_TURNS}
_PAIR_LETTERS: Final = {Gate.RXX: "X", Gate.RYY: "Y", Gate.RZZ: "Z"}


def lines(op: Op) -> list[str]:
    """Return a Clifford operation as lines of stim, up to global phase."""
    gate, qubits, params, _ = op
    targets = " ".join(map(str, qubits))
    name = _NAMES.get(gate)
    if name is not None:
        return [f"{name} {targets}"]
    turns = [quarter_turns(angle) for angle in params]
    if gate in _ONE_QUBIT_TURNS:
        return [f"{_ONE_QUBIT_TURNS[Gate(gate)][turns[0]]} {targets}"]
    if gate == Gate.U:
        # U(θ, φ, λ) = Rz(φ)·Ry(θ)·Rz(λ) up to phase
        return [f"{_Z_TURNS[turns[2]]} {targets}", f"{_Y_TURNS[turns[0]]} {targets}", f"{_Z_TURNS[turns[1]]} {targets}"]
    if gate == Gate.CP:
        return [f"CZ {targets}"] if turns[0] == 2 else []
    letter = _PAIR_LETTERS[Gate(gate)]
    if turns[0] == 2:
        return [f"{letter} {targets}"]
    return [] if turns[0] == 0 else [f"SQRT_{letter * 2}{'_DAG' if turns[0] == 3 else ''} {targets}"]


def noise_line(site: Site, device: Device) -> str:
    """Return a disturbance as a line of stim; relaxation as its Pauli twirl."""
    targets = " ".join(map(str, site.targets))
    if site.kind == Kind.RELAX:
        x, y, z = twirled_probabilities(device, site.value)
        return f"PAULI_CHANNEL_1({x:.12f},{y:.12f},{z:.12f}) {targets}"
    size = len(site.targets)
    chance = site.value * (1 - 0.25**size)
    return f"DEPOLARIZE{size}({chance:.12f}) {targets}"


def run(
    plan: Plan,
    sites: list[Site],
    device: Device,
    shots: int,
    seed: int,
    cancelled: Callable[[], bool],
) -> Mapping[int, int]:
    """Return counts; readout errors of final measurements are not in them."""
    import stim

    by_place = _noise_by_place(sites, device)
    flips = {site.owner: site.value for site in sites if site.kind == Kind.FLIP}
    if plan.conditions:
        return _run_by_shot(stim, plan, by_place, flips, shots, seed, cancelled)
    plain = not by_place and not plan.stops
    text: list[str] = []
    columns: dict[int, int] = {}
    recorded = 0
    if plain:
        text.append(_write_plain(plan))
    else:
        recorded = _write_noisy(plan, by_place, flips, text, columns)
    if plan.final:
        text.append("M " + " ".join(map(str, plan.final.values())))
        columns |= {clbit: recorded + place for place, clbit in enumerate(plan.final)}
        recorded += len(plan.final)
    sampler = stim.Circuit("\n".join(text)).compile_sampler(seed=seed)
    parts = []
    for start in range(0, shots, CHUNK_SHOTS):
        if cancelled():
            raise CancelledError
        rows = sampler.sample_bit_packed(min(CHUNK_SHOTS, shots - start))
        parts.append(count_rows(rows, columns, recorded, plan.num_clbits))
    return add_counts(parts)


def _write_plain(plan: Plan) -> str:
    """Return gates without noise as lines of stim."""
    # most circuits hold only gates that stim knows by name; put together from parts, that takes half the time
    label = [f" {qubit}" for qubit in range(plan.num_qubits)]
    try:
        return "\n".join(
            [
                _NAMES[gate] + label[own[0]] if len(own) == 1 else _NAMES[gate] + label[own[0]] + label[own[1]]
                for gate, own, _, _ in plan.ops
            ]
        )
    except KeyError:
        return "\n".join([line for op in plan.ops for line in lines(op)])


def _write_noisy(
    plan: Plan,
    by_place: dict[tuple[int, bool], list[str]],
    flips: dict[int, float],
    text: list[str],
    columns: dict[int, int],
) -> int:
    """Write operations with their noise and measurements; note in which column each classical bit is recorded.

    Returns how many columns are recorded.
    """
    recorded = 0
    for index, op in enumerate(plan.ops):
        text += by_place.get((index, False), ())
        if op[0] == MEASURE:
            text.append(f"M({flips.get(index, 0.0):.12f}) {op[1][0]}")
            columns[op[3]] = recorded
            recorded += 1
        else:
            text += lines(op)
        text += by_place.get((index, True), ())
    text += by_place.get((len(plan.ops), False), ())
    return recorded


def _noise_by_place(sites: list[Site], device: Device) -> dict[tuple[int, bool], list[str]]:
    """Group noise lines by `(operation, after it?)`."""
    out: dict[tuple[int, bool], list[str]] = {}
    for site in sites:
        if site.kind != Kind.FLIP:
            out.setdefault((site.owner, site.at > site.owner), []).append(noise_line(site, device))
    return out


def _run_by_shot(
    stim: Any,  # untyped module
    plan: Plan,
    by_place: dict[tuple[int, bool], list[str]],
    flips: dict[int, float],
    shots: int,
    seed: int,
    cancelled: Callable[[], bool],
) -> dict[int, int]:
    """Follow conditions shot by shot; stim's sampler knows no condition on a whole register."""
    rng = np.random.default_rng(seed)
    steps = [
        stim.Circuit("\n".join([*by_place.get((i, False), ()), *_unitary(op), *by_place.get((i, True), ())]))
        for i, op in enumerate(plan.ops)
    ]
    last = stim.Circuit("\n".join(by_place.get((len(plan.ops), False), ())))
    counts: dict[int, int] = {}
    for _ in range(shots):
        if cancelled():
            raise CancelledError
        simulator = stim.TableauSimulator(seed=int(rng.integers(1 << 62)))
        simulator.set_num_qubits(plan.num_qubits)
        bits, pc = 0, 0
        while pc < len(plan.ops):
            gate, qubits, _, arg = plan.ops[pc]
            if gate == IF and not holds(plan.conditions[arg], bits):
                pc += plan.conditions[arg].length
            elif gate == MEASURE:
                outcome = int(simulator.measure(qubits[0])) ^ int(rng.random() < flips.get(pc, 0.0))
                bits = bits & ~(1 << arg) | outcome << arg
                simulator.do(steps[pc])
            else:
                simulator.do(steps[pc])
            pc += 1
        simulator.do(last)
        for clbit, qubit in plan.final.items():
            bits = bits & ~(1 << clbit) | int(simulator.measure(qubit)) << clbit
        counts[bits] = counts.get(bits, 0) + 1
    return counts


def _unitary(op: Op) -> list[str]:
    return [] if op[0] in (MEASURE, IF) else lines(op)
