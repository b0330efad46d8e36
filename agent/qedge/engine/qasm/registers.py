"""Declared registers and the operands that name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from qedge.engine.qasm.lexer import Lexer, Token
from qedge.engine.qasm.model import ParseLimits

Bit = int
_NAMED_BITS: Final = 64
"""Bits of registers up to this size are named at once, those of larger ones when they are used."""

MOST_KNOWN: Final = 1024


class Declared(NamedTuple):
    """A register: bits `offset … offset+size−1` of its kind."""

    name: str
    size: int
    offset: int
    quantum: bool
    bits: tuple[Bit, ...]


class Operand(NamedTuple):
    """`bits` of a register; `whole` where the program named the register without an index."""

    name: str
    bits: tuple[Bit, ...]
    whole: bool

    def __str__(self) -> str:
        return f"register {self.name} of {len(self.bits)}" if self.whole else f"one bit of {self.name}"


class _ByText(dict[str, int]):
    """`name[index]` → bit, resolved when first asked for; −1 for a bit that does not exist."""

    def __init__(self, registers: Mapping[str, Declared], *, quantum: bool) -> None:
        super().__init__()
        self._registers = registers
        self._quantum = quantum

    def __missing__(self, text: str) -> int:
        if text[0] == "$":
            return -1
        name, _, index = text[:-1].partition("[")
        register = self._registers.get(name)
        if register is None or register.quantum != self._quantum or int(index) >= register.size:
            return -1
        bit = self[text] = register.bits[int(index)]
        return bit


@lru_cache(maxsize=8)
def _operands_of(_registers: tuple[tuple[str, int], ...]) -> dict[str, tuple[Bit, ...]]:
    return {}


class Names:
    """All registers of a program, in one name space."""

    def __init__(self, limits: ParseLimits) -> None:
        self._limits = limits
        self._registers: dict[str, Declared] = {}
        self._known: dict[str, tuple[Bit, ...]] | None = None
        self.num_qubits = 0
        self.num_clbits = 0
        self.qubit_by_text = _ByText(self._registers, quantum=True)
        self.clbit_by_text = _ByText(self._registers, quantum=False)

    def __contains__(self, name: str) -> bool:
        return name in self._registers

    def find(self, name: str) -> Declared | None:
        """Return the register of a name."""
        return self._registers.get(name)

    def known_operands(self) -> dict[str, tuple[Bit, ...]]:
        """Return which qubits texts mean that were read before, in this program or one with the same registers.

        Different qubits of registers belong in there, at most `MOST_KNOWN` texts.
        """
        if self._known is None:
            rows = [(row.name, row.size) for row in self._registers.values() if row.quantum]
            self._known = _operands_of(tuple(rows))
        return self._known

    def classical(self) -> Iterable[tuple[str, int, int]]:
        """Yield `(name, size, offset)` of each classical register."""
        return [(row.name, row.size, row.offset) for row in self._registers.values() if not row.quantum]

    def declare(self, lexer: Lexer, name: Token, size: int, size_at: int, *, quantum: bool) -> None:
        """Add a register; raises where its size or the totals are out of bounds."""
        limits = self._limits
        if size < 1:
            raise lexer.fault(size_at, "circuit.syntax", "expected a register of at least 1, found 0")
        if len(self._registers) >= limits.max_registers:
            raise lexer.fault(
                name.at,
                "circuit.too_large",
                f"expected at most {limits.max_registers} registers",
                limit=limits.max_registers,
            )
        offset = self.num_qubits if quantum else self.num_clbits
        most, what = (limits.max_qubits, "qubits") if quantum else (limits.max_clbits, "classical bits")
        if offset + size > most:
            shown = offset + size if size < 10**18 else -1
            raise lexer.fault(
                size_at,
                "circuit.too_many_qubits" if quantum else "circuit.too_large",
                f"expected at most {most} {what}, found {'more' if shown < 0 else shown}",
                limit=most,
                found=shown,
            )
        self._add(name.text, size, offset, quantum=quantum)

    def declare_plain(self, name: str, size: int, *, quantum: bool) -> bool:
        """Add a register of a new name; False, and nothing added, where `declare` has to say what is wrong with it."""
        offset = self.num_qubits if quantum else self.num_clbits
        most = self._limits.max_qubits if quantum else self._limits.max_clbits
        if size < 1 or offset + size > most or len(self._registers) >= self._limits.max_registers:
            return False
        self._add(name, size, offset, quantum=quantum)
        return True

    def _add(self, name: str, size: int, offset: int, *, quantum: bool) -> None:
        self._registers[name] = Declared(name, size, offset, quantum, tuple(range(offset, offset + size)))
        if quantum:
            self._known = None
            self.num_qubits += size
        else:
            self.num_clbits += size
        if size <= _NAMED_BITS:
            by_text = self.qubit_by_text if quantum else self.clbit_by_text
            by_text.update({f"{name}[{index}]": offset + index for index in range(size)})

    def qubits(self, lexer: Lexer) -> Operand:
        """Read a qubit or a quantum register."""
        return self._operand(lexer, quantum=True)

    def clbits(self, lexer: Lexer) -> Operand:
        """Read a classical bit or register."""
        return self._operand(lexer, quantum=False)

    def classical_register(self, lexer: Lexer) -> Declared:
        """Read the name of a classical register."""
        return self._declared(lexer, quantum=False)[0]

    def qubit_name(self, own: tuple[Bit, ...]) -> str:
        """Return how the program names the first qubit that is repeated in `own`."""
        bit = next(bit for bit in own if own.count(bit) > 1)
        for row in self._registers.values():
            if row.quantum and row.offset <= bit < row.offset + row.size:
                return f"{row.name}[{bit - row.offset}]"
        return str(bit)

    def _declared(self, lexer: Lexer, *, quantum: bool) -> tuple[Declared, Token]:
        what = "a quantum register" if quantum else "a classical register"
        name = lexer.expect_kind("name", what)
        register = self._registers.get(name.text)
        if register is None:
            raise lexer.fault(
                name.at, "circuit.undeclared_name", f"expected {what}, but {name} is not declared", name=name.text[:40]
            )
        if register.quantum != quantum:
            kind = "quantum" if register.quantum else "classical"
            raise lexer.fault(name.at, "circuit.syntax", f"expected {what}, but {name} is {kind}")
        return register, name

    def _operand(self, lexer: Lexer, *, quantum: bool) -> Operand:
        register, name = self._declared(lexer, quantum=quantum)
        if not lexer.accept("["):
            return Operand(register.name, register.bits, whole=True)
        at = lexer.token.at
        index = lexer.expect_int("an index")
        if index >= register.size:
            raise lexer.fault(
                at,
                "circuit.index_out_of_range",
                f"expected an index 0 … {register.size - 1} of {name}, found {str(index)[:20]}",
                size=register.size,
            )
        lexer.expect("]")
        return Operand(register.name, (register.bits[index],), whole=False)
