"""What a parse is given and what it returns."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qedge.wire.jobs import Register
from qedge_driver_api import FlatCircuit


class ParseLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of one program; each is checked before the memory or the time behind it is spent."""

    max_text_bytes: Annotated[int, msgspec.Meta(description="Longest program text, in bytes.", ge=64, le=64 << 20)] = (
        1 << 20
    )
    max_operations: Annotated[
        int, msgspec.Meta(description="Most operations after gate definitions are expanded.", ge=1, le=10_000_000)
    ] = 200_000
    max_qubits: Annotated[int, msgspec.Meta(description="Most qubits declared, used or not.", ge=1, le=100_000)] = (
        10_000
    )
    max_clbits: Annotated[int, msgspec.Meta(description="Most classical bits declared.", ge=1, le=100_000)] = 10_000
    max_registers: Annotated[int, msgspec.Meta(description="Most registers declared.", ge=1, le=100_000)] = 1024
    max_gate_nesting: Annotated[int, msgspec.Meta(description="Deepest nesting of gate definitions.", ge=1, le=256)] = (
        64
    )
    max_expression_depth: Annotated[
        int, msgspec.Meta(description="Deepest nesting of a parameter expression.", ge=1, le=128)
    ] = 64
    max_number_chars: Annotated[
        int, msgspec.Meta(description="Longest numeric literal, in characters.", ge=16, le=4000)
    ] = 400


class Program(msgspec.Struct, frozen=True):
    """A parsed program: the flat circuit and its classical registers in the order of declaration."""

    circuit: FlatCircuit
    registers: tuple[Register, ...]
