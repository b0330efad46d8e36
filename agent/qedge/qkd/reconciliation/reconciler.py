"""Syndromes of frames at one end, errors found from them at the other.

Alice sends `syndrome`; Bob decodes its difference (XOR) from the syndrome of his own frame. Where that fails he asks for
`extra_syndrome`, step 1, 2, …, and decodes with all of it. Leaked are exactly the bits of syndrome and steps sent.
An error that explains a syndrome may still be the wrong one: frames have to be verified by a tag afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qedge.qkd.reconciliation import kernels
from qedge.qkd.reconciliation.check_node import Effort, scale
from qedge.qkd.reconciliation.codes import CODES
from qedge.qkd.reconciliation.model import Code, Decoded, Packed

MIN_QBER: Final = 0.002
"""Decoders take a lower rate for this one: with certainties beyond it eight bits leave no room."""
MAX_QBER: Final = 0.2


NARROW: Final = Effort(4.85, 16, 38, 60, 9)
"""Posteriors of 8 bits: they hold what a bit of many checks collects only if received bits have few units."""
WIDE: Final = Effort(5, 40, 63, 100, 20)
NEARLY: Final = 0.02
"""Part of checks broken at the end, up to which the wide decoder is tried: beyond it, it lacks parities, not bits."""


class Reconciler:
    """Owns the scratch of the kernels: one for each thread. All frames and syndromes are little-endian bits."""

    def __init__(self) -> None:
        self._posteriors = np.zeros(0, np.int8)
        self._wide_posteriors = np.zeros(0, np.int16)
        self._messages = np.zeros(0, np.int8)
        self._kept = np.zeros(0, np.int16)
        self._history = np.zeros(256, np.int64)

    def syndrome(self, code: Code, frame: Packed) -> Packed:
        """Return the syndrome of a frame: u8[16384] -> u8[syndrome_bits / 8]. ValueError for another length."""
        starts = code.circulants.starts
        return self._parities(code, frame, starts[:-1], starts[1:])

    def extra_syndrome(self, code: Code, frame: Packed, step: int) -> Packed:
        """Return the further parities of step 1, 2, … for a frame that failed: u8[step_bits / 8]."""
        if not 1 <= step <= code.steps:
            raise ValueError(f"there is no step {step}; code {code.name} has {code.steps}")
        halves = code.halves(step)
        return self._parities(code, frame, halves.begins, halves.ends)

    def decode(self, code: Code, difference: Packed, qber: float, extra: Sequence[Packed] = ()) -> Decoded:
        """Find the error with this syndrome at an error rate of about `qber`.

        `extra`: the differences of the further steps, from the first on. ValueError for lengths that do not fit and for
        rates outside 0 … 0.5.
        """
        narrow, error = self.run(code, difference, extra, qber, NARROW)
        if narrow > 0:
            return Decoded(error, narrow, wide=False)
        if self._history[-narrow - 1] > NEARLY * 8 * (len(difference) + sum(map(len, extra))):
            return Decoded(None, -narrow, wide=False)
        wide, error = self.run(code, difference, extra, qber, WIDE)
        return Decoded(error if wide > 0 else None, abs(narrow) + abs(wide), wide=True)

    def run(
        self, code: Code, difference: Packed, extra: Sequence[Packed], qber: float, effort: Effort
    ) -> tuple[int, Packed]:
        """Run one decoder; return its sweeps, negative where it found nothing, and the error.

        ValueError as for `decode`.
        """
        if not 0 <= qber <= 0.5:
            raise ValueError(f"an error rate of {qber} is none")
        wanted = _assembled(code, difference, extra)
        numbers = scale(min(max(qber, MIN_QBER), MAX_QBER), effort.units, effort.most)
        made, wide = code.circulants, effort is WIDE
        self._make_room(code)
        errors = np.zeros(code.frame_bits // 64, np.uint64)
        sweeps = kernels.decode(
            wanted,
            code.lifting,
            code.split(len(extra)).starts,
            made.columns,
            made.shifts,
            np.tile(numbers.correction, 4),
            numbers.channel,
            effort.largest,
            effort.sweeps,
            effort.patience,
            self._wide_posteriors if wide else self._posteriors,
            self._messages,
            self._kept if wide else self._messages,
            0 if wide else 1,
            self._history,
            errors,
        )
        return sweeps, errors.view(np.uint8)

    def _parities(self, code: Code, frame: Packed, begins: NDArray[np.int32], ends: NDArray[np.int32]) -> Packed:
        made = code.circulants
        out = np.zeros(len(begins) * code.lifting // 64, np.uint64)
        words = _words(frame, code.frame_bits)
        kernels.syndrome(words, code.lifting, begins, ends, made.columns, made.shifts, out)
        return out.view(np.uint8)

    def _make_room(self, code: Code) -> None:
        """Make scratch as large as this code needs."""
        places = code.base_columns * (code.lifting + 64)
        edges = len(code.circulants.columns)
        heaviest = int(np.diff(code.circulants.starts).max())
        if len(self._posteriors) != places:
            self._posteriors, self._wide_posteriors = np.zeros(places, np.int8), np.zeros(places, np.int16)
        if len(self._messages) < edges * code.lifting:
            self._messages = np.zeros(edges * code.lifting, np.int8)
        if len(self._kept) < heaviest * 128:
            self._kept = np.zeros(heaviest * 128, np.int16)


def _assembled(code: Code, difference: Packed, extra: Sequence[Packed]) -> NDArray[np.uint64]:
    """Return the parities of all rows after the steps given, row by row."""
    if len(extra) > code.steps:
        raise ValueError(f"{len(extra)} steps; code {code.name} has {code.steps}")
    split = code.split(len(extra))
    none = np.zeros(code.lifting // 64, np.uint64)
    syndromes = np.concatenate([_words(difference, code.syndrome_bits), none])
    halves = np.concatenate([*(_words(part, code.step_bits) for part in extra), none])
    shape = (-1, code.lifting // 64)
    rows: NDArray[np.uint64] = syndromes.reshape(shape)[split.syndromes] ^ halves.reshape(shape)[split.halves]
    return rows.reshape(-1)


def _words(bits: Packed, number: int) -> NDArray[np.uint64]:
    """View packed bits as words; ValueError where they are not so many."""
    if bits.dtype != np.uint8 or bits.shape != (number // 8,):
        raise ValueError(f"expected {number // 8} bytes, got {bits.dtype} of shape {bits.shape}")
    whole = np.ascontiguousarray(bits)
    return (whole if whole.ctypes.data % 8 == 0 else whole.copy()).view(np.uint64)


def warm() -> None:
    """Load the kernels of both decoders, or compile them: a second or two where nothing is cached."""
    code, reconciler = CODES[0], Reconciler()
    frame = np.zeros(code.frame_bits // 8, np.uint8)
    nothing = reconciler.syndrome(code, frame)
    for effort in (NARROW, WIDE):
        reconciler.run(code, nothing, (), code.design_qber, effort)
