"""Nouns of reconciliation."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qedge.qkd.reconciliation.construction import Circulants, build, split_rows

Packed = NDArray[np.uint8]
"""Little-endian bits: bit i of the sequence is bit i & 7 of byte i >> 3."""
FRAME_BITS: Final = 131_072
FRAME_BYTES: Final = FRAME_BITS // 8


@dataclass(frozen=True, slots=True)
class Code:
    """A code of the family; what it leaks is known without building it.

    `degrees`: (degree, number of columns) pairs. `design_qber`: the highest error rate that it is chosen for.
    """

    name: str
    base_rows: int
    base_columns: int
    lifting: int
    step_rows: int
    degrees: tuple[tuple[int, int], ...]
    design_qber: float
    seed: int
    steps: int = 8

    @property
    def frame_bits(self) -> int:
        """Bits of a frame."""
        return self.base_columns * self.lifting

    @property
    def syndrome_bits(self) -> int:
        """Bits that the syndrome of a frame leaks."""
        return self.base_rows * self.lifting

    @property
    def step_bits(self) -> int:
        """Bits that each further step leaks, for a frame that could not be decoded."""
        return self.step_rows * self.lifting

    @property
    def circulants(self) -> Circulants:
        """The code itself, built at first use and kept."""
        return _circulants(self)

    def split(self, steps: int) -> Split:
        """Return its rows after so many further steps."""
        return _split(self, steps)

    def halves(self, step: int) -> Halves:
        """Return what step 1, 2, … sends."""
        return _halves(self, step)


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of a code of which some are split in two.

    Row r has circulants starts[r] … starts[r + 1] - 1 (i32). Its parities are the sum of those of base row syndromes[r]
    and of further parities halves[r]; the number of base rows, and of rows split, stands for none.
    """

    starts: NDArray[np.int32]
    syndromes: NDArray[np.int64]
    halves: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Halves:
    """The circulants whose parities a step sends: begins[i] … ends[i] - 1 (i32), one entry for each row it splits."""

    begins: NDArray[np.int32]
    ends: NDArray[np.int32]


@functools.cache
def _circulants(code: Code) -> Circulants:
    return build(code.degrees, code.base_rows, code.lifting, code.seed)


@functools.cache
def _split(code: Code, steps: int) -> Split:
    starts = code.circulants.starts
    split = split_rows(code.base_rows, code.step_rows, code.steps)[: steps * code.step_rows]
    bounds, syndromes, halves = [], [], []
    for row in range(code.base_rows):
        bounds.append(int(starts[row]))
        if row in split:
            bounds.append(_middle(starts, row))
            syndromes += [code.base_rows, row]
            halves += [split.index(row)] * 2
        else:
            syndromes.append(row)
            halves.append(len(split))
    bounds.append(int(starts[-1]))
    return Split(np.array(bounds, np.int32), np.array(syndromes), np.array(halves))


@functools.cache
def _halves(code: Code, step: int) -> Halves:
    starts = code.circulants.starts
    rows = split_rows(code.base_rows, code.step_rows, code.steps)[(step - 1) * code.step_rows : step * code.step_rows]
    return Halves(starts[rows], np.array([_middle(starts, row) for row in rows], np.int32))


def _middle(starts: NDArray[np.int32], row: int) -> int:
    """Return where the second half of a row begins; the first has the odd one."""
    return (int(starts[row]) + int(starts[row + 1]) + 1) // 2


@dataclass(frozen=True, slots=True)
class Decoded:
    """What came of a frame.

    `error`: the bits in which Bob's frame differs from Alice's, None where none was found that explains the syndrome.
    `iterations`: sweeps over all rows, of both decoders together. `wide`: the decoder with posteriors of 16 bits was used.
    """

    error: Packed | None
    iterations: int
    wide: bool
