"""The text of a program for a QDMI device: OpenQASM 2 or 3 with one register `q`, and what its results mean. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from qedge_driver_api import Condition, ConditionKind, FatalError, FlatCircuit, Gate, ProgramError
from qedge_drivers.qdmi.lowering import Branch, Statement, Step, lower
from qedge_drivers.qdmi.native import Native

QASM2 = "qasm2"
QASM3 = "qasm3"


@dataclass(frozen=True, slots=True)
class Written:
    """A program; character i of an outcome, counted from its right end, is classical bit `clbits[i]`."""

    text: str
    clbits: tuple[int, ...]


def needs_qasm3(circuit: FlatCircuit) -> bool:
    """Tell whether OpenQASM 3 says it better: conditions on single bits, gates with added controls."""
    return any(op[0] == Gate.IF or (op[0] < Gate.MEASURE and op[3] > 0) for op in circuit.ops)


def write(circuit: FlatCircuit, native: Native, size: int, language: str) -> Written:
    """Write a circuit for a device in a register of `size` qubits; raises `ProgramError`.

    Only classical bits that are written are declared: some devices refuse registers with others.
    """
    clbits = tuple(sorted({op[3] for op in circuit.ops if op[0] == Gate.MEASURE}))
    place = {clbit: index for index, clbit in enumerate(clbits)}
    body = lower(circuit, native)
    if language == QASM2:
        head = ["OPENQASM 2.0;", 'include "qelib1.inc";', f"qreg q[{size}];", f"creg c[{len(clbits)}];"]
        if any(isinstance(each, Branch) for each in body):
            raise ProgramError("unsupported", "the device takes no OpenQASM 3, which programs with conditions need")
    else:
        start = "" if _always_written(body, clbits) else f' = "{"0" * len(clbits)}"'
        head = ["OPENQASM 3.0;", 'include "stdgates.inc";', f"qubit[{size}] q;", f"bit[{len(clbits)}] c{start};"]
    return Written("\n".join([*head, *_lines(body, place, language)]) + "\n", clbits)


def _always_written(body: Iterable[Statement], clbits: tuple[int, ...]) -> bool:
    """Tell whether every bit gets its value from a measurement, and before a condition reads it."""
    known: set[int] = set()
    for each in body:
        if isinstance(each, Step):
            known.add(each.clbit)
        elif not known.issuperset(set(each.condition.bits) & set(clbits)):
            return False
    return known.issuperset(clbits)


def _lines(body: Iterable[Statement], place: Mapping[int, int], language: str) -> Iterator[str]:
    for each in body:
        if isinstance(each, Step):
            yield _line(each, place, language)
            continue
        condition = _condition(each.condition, place)
        if condition is None:
            continue
        inner = _lines(each.body, place, language)
        if condition:
            yield f"if ({condition}) {{"
            yield from inner
            yield "}"
        else:
            yield from inner


def _line(step: Step, place: Mapping[int, int], language: str) -> str:
    qubits = ", ".join(f"q[{qubit}]" for qubit in step.qubits)
    if step.name == "measure":
        bit = f"c[{place[step.clbit]}]"
        return f"measure {qubits} -> {bit};" if language == QASM2 else f"{bit} = measure {qubits};"
    params = f"({', '.join(map(_number, step.params))})" if step.params else ""
    controls = f"ctrl({step.controls}) @ " if step.controls else ""
    return f"{controls}{step.name}{params} {qubits};"


def _number(value: float) -> str:
    """Write a number as both languages read it: with a point before an exponent."""
    text = repr(value)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _condition(condition: Condition, place: Mapping[int, int]) -> str | None:
    """Write a condition; empty where it always holds, None where it never does. Bits without a place are 0."""
    if condition.kind == ConditionKind.PARITY:
        bits = [f"c[{place[bit]}]" for bit in condition.bits if bit in place]
        if not bits:
            return None if condition.value else ""
        chain = bits[0]
        for other in bits[1:]:
            chain = f"({chain} != {other})"
        return chain if condition.value else f"!{chain}"
    if condition.value >> len(condition.bits):
        return None
    terms = []
    for order, bit in enumerate(condition.bits):
        wanted = condition.value >> order & 1
        if bit in place:
            terms.append(f"{'' if wanted else '!'}c[{place[bit]}]")
        elif wanted:
            return None
    return " && ".join(terms)


def read_counts(histogram: object, written: Written, shots: int) -> dict[int, int]:
    """Check a histogram of a device and return it in our order of bits; raises `FatalError` where it does not fit."""
    if not isinstance(histogram, Mapping):
        raise FatalError("the device returned no histogram")
    width, counts = len(written.clbits), dict[int, int]()
    for key, number in histogram.items():
        if not isinstance(key, str) or len(key) != width or set(key) - {"0", "1"}:
            raise FatalError(f"the device returned the outcome {str(key)[:40]!r} for {width} bits")
        if not isinstance(number, int) or number < 0:
            raise FatalError(f"the device returned {str(number)[:40]!r} as a count")
        value = sum(1 << clbit for clbit, bit in zip(written.clbits, reversed(key), strict=True) if bit == "1")
        if number:
            counts[value] = counts.get(value, 0) + number
    if sum(counts.values()) != shots:
        raise FatalError(f"the device returned {sum(counts.values())} outcomes of {shots} shots")
    return counts
