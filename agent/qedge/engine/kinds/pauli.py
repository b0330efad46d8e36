"""Pauli sums as text, and the circuits that measure them on a QPU that only counts. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError
from qedge_driver_api import FlatCircuit, Gate, Pauli, PauliSum
from qedge_driver_api.circuit import Op

_FACTOR: Final = re.compile(r"([XYZ])([0-9]{1,6})")
_MAX_TERMS: Final = 100_000
_MAX_LOOKS: Final = 4_000_000
"""Comparisons of terms with groups: about a second."""

_BASIS: Final[Mapping[str, tuple[int, ...]]] = {
    "X": (int(Gate.H),),
    "Y": (int(Gate.SDG), int(Gate.H)),
    "Z": (),
}


def read_sums(sums: Sequence[Mapping[str, float]], num_qubits: int) -> list[PauliSum]:
    """Read Pauli sums; raises `job.bad_observable`."""
    if sum(len(each) for each in sums) > _MAX_TERMS:
        raise QedgeError("job.bad_observable", f"The observables have more than {_MAX_TERMS} terms.")
    return [
        tuple((_product(text, num_qubits), _weight(text, weight)) for text, weight in each.items()) for each in sums
    ]


def _weight(text: str, weight: float) -> float:
    if not math.isfinite(weight):
        raise QedgeError("job.bad_observable", f"The coefficient of {text[:40]} is not a finite number.")
    return weight


def _product(text: str, num_qubits: int) -> Pauli:
    if text.strip() in ("I", ""):
        return ()
    factors: dict[int, str] = {}
    for part in text.replace("*", " ").split():
        match = _FACTOR.fullmatch(part)
        if match is None:
            raise QedgeError(
                "job.bad_observable", f"{part[:40]!r} is no Pauli operator.", fix="Write products such as `X0 Z3`."
            )
        qubit = int(match[2])
        if qubit >= num_qubits or qubit in factors:
            raise QedgeError(
                "job.bad_observable",
                f"The observable {text[:60]!r} names qubit {qubit}: the program has {num_qubits}, each can stand once.",
                fix="Number the qubits from 0 in the order of their declaration.",
            )
        factors[qubit] = match[1]
    return tuple(sorted(factors.items()))


@dataclass(frozen=True, slots=True)
class Setting:
    """Qubits and the letters they are measured in, and what terms can be read off: (observable, product, weight)."""

    letters: Mapping[int, str]
    terms: tuple[tuple[int, Pauli, float], ...]


def settings_of(observables: Sequence[PauliSum]) -> tuple[list[float], list[Setting]]:
    """Group terms that one measurement of every qubit can tell; returns the constant parts and the groups.

    Raises `job.bad_observable` where so many terms need measurements of their own that to group them takes too long.
    """
    constants = [0.0] * len(observables)
    groups: list[tuple[dict[int, str], list[tuple[int, Pauli, float]]]] = []
    masks: list[tuple[int, int]] = []
    looks = 0
    terms = [
        (number, product, weight) for number, observable in enumerate(observables) for product, weight in observable
    ]
    for number, product, weight in sorted(terms, key=lambda term: -len(term[1])):
        if not product:
            constants[number] += weight
            continue
        x, z = _masks(product)
        own, place = x | z, 0
        for place, (other_x, other_z) in enumerate(masks):
            if not ((x ^ other_x) | (z ^ other_z)) & own & (other_x | other_z):
                groups[place][0].update(product)
                groups[place][1].append((number, product, weight))
                masks[place] = (x | other_x, z | other_z)
                break
        else:
            groups.append((dict(product), [(number, product, weight)]))
            masks.append((x, z))
        looks += place + 1
        if looks > _MAX_LOOKS:
            raise QedgeError(
                "job.bad_observable",
                f"The observables need more than {len(groups)} ways of measuring.",
                fix="Send fewer terms in a job, or have a simulator compute them.",
            )
    return constants, [Setting(letters, tuple(members)) for letters, members in groups]


def _masks(product: Pauli) -> tuple[int, int]:
    """Return the qubits on which a product has X or Y, and those on which it has Z or Y."""
    x = z = 0
    for qubit, letter in product:
        bit = 1 << qubit
        x |= bit if letter != "Z" else 0
        z |= bit if letter != "X" else 0
    return x, z


def measured_in(circuit: FlatCircuit, setting: Setting) -> FlatCircuit:
    """Return the circuit with these qubits measured in these bases at its end instead of its own measurements."""
    ops = _without_last_measurements(circuit)
    for place, (qubit, letter) in enumerate(sorted(setting.letters.items())):
        ops += [(gate, (qubit,), (), 0) for gate in _BASIS[letter]]
        ops.append((int(Gate.MEASURE), (qubit,), (), circuit.num_clbits + place))
    return FlatCircuit(circuit.num_qubits, circuit.num_clbits + len(setting.letters), tuple(ops), circuit.conditions)


def _without_last_measurements(circuit: FlatCircuit) -> list[Op]:
    """Drop the measurements after which nothing happens to their qubits and nothing asks for their bits."""
    ops = circuit.ops
    governed: set[int] = set()
    for index, (gate, _, _, arg) in enumerate(ops if circuit.conditions else ()):
        if gate == Gate.IF:
            governed.update(range(index + 1, index + 1 + circuit.conditions[arg].length))
    touched: set[int] = set()
    asked: set[int] = set()
    kept: list[Op] = []
    for index in range(len(ops) - 1, -1, -1):
        op = ops[index]
        gate, qubits, _, arg = op
        if gate == Gate.MEASURE and index not in governed and qubits[0] not in touched and arg not in asked:
            continue
        if gate == Gate.IF:
            asked.update(circuit.conditions[arg].bits)
        elif gate != Gate.BARRIER:
            touched.update(qubits)
        kept.append(op)
    kept.reverse()
    return kept


def read_off(
    setting: Setting, counts: Mapping[int, int], first_bit: int, values: list[float], variances: list[float]
) -> None:
    """Add what the counts say of the terms of a setting to values and variances, by observable."""
    place = {qubit: first_bit + order for order, qubit in enumerate(sorted(setting.letters))}
    shots = sum(counts.values())
    sums: dict[int, tuple[float, float]] = {}
    masks = [
        (number, sum(1 << place[qubit] for qubit, _ in product), weight) for number, product, weight in setting.terms
    ]
    for key, times in counts.items():
        # terms of one observable in one setting are correlated, so each shot counts as one value
        drawn: dict[int, float] = {}
        for number, mask, weight in masks:
            drawn[number] = drawn.get(number, 0.0) + (-weight if (key & mask).bit_count() & 1 else weight)
        for number, value in drawn.items():
            total, squares = sums.get(number, (0.0, 0.0))
            sums[number] = total + times * value, squares + times * value * value
    for number, (total, squares) in sums.items():
        mean = total / shots
        values[number] += mean
        variances[number] += max(0.0, squares / shots - mean * mean) / max(1, shots - 1)
