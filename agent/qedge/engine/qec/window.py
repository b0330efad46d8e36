"""Decoding of syndromes as they arrive: a sliding window over rounds (Dennis et al., quant-ph/0110143, section VI).

A window of `window` rounds is decoded as a block; errors first seen in its oldest `commit` rounds are final, the rest
is decoded again with what comes next. Rounds from `steady` on look alike up to the last ones, so that one matcher
serves all windows between, however many rounds there will be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qedge.base.errors import QedgeError
from qedge.engine.qec.model import BOUNDARY, ErrorModel, Integers, Memory, matching_library, memory_errors

Bits = npt.NDArray[np.uint8]
_STEADY_FROM: Final = 2
"""The first round that looks like those after it: round 0 compares with a preparation, round 1 with round 0."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What decodes one window: a matcher over its rows (detectors), and what its columns (errors) do.

    The first `num_final` columns are committed; `rows[c]` are the rows of column c in the running syndrome, which may
    lie beyond the window, `flips[c]` the observables.
    """

    matcher: Any  # a pymatching.Matching
    num_rows: int
    num_final: int
    rows: Integers
    flips: npt.NDArray[np.uint64]


class Pieces:
    """The matchers of the windows of an error model, made when first needed.

    `steady` is the first round from which the model repeats itself, 0 for a model that is taken as it is; `exact` gives
    the model of a stream that ends after so many rounds, for those too short to repeat anything.
    """

    def __init__(
        self,
        model: ErrorModel,
        window: int,
        commit: int,
        *,
        steady: int = 0,
        exact: Callable[[int], ErrorModel] | None = None,
    ) -> None:
        if not 1 <= commit <= window:
            raise QedgeError(
                "job.bad_request",
                f"A window of {window} rounds cannot commit {commit}.",
                fix="Commit at least one round, and at most the window; 2d and d are good for distance d.",
            )
        self.model = model
        self.window = window
        self.commit = commit
        self.steady = steady
        self._exact = exact
        self.bounds = model.bounds()
        self._made: dict[tuple[int, int, bool], Piece] = {}

    def sizes(self, begin: int, end: int) -> int:
        """Return how many detectors the rounds from `begin` to before `end` of the model have."""
        return int(self.bounds[end] - self.bounds[begin])

    def middle(self, begin: int) -> tuple[int, Piece]:
        """Return where in the model the window from round `begin` of a stream lies, and its matcher."""
        at = min(begin, self.steady) if self.steady else begin
        return at, self._piece(at, at + self.window, final=False)

    def final(self, begin: int, length: int) -> Piece:
        """Return the matcher that ends a stream with the `length` rounds from `begin` on."""
        if begin < self.steady and self._exact is not None and begin + length != self.model.num_rounds:
            own = Pieces(self._exact(begin + length), self.window, self.commit)
            return own.final(begin, length)
        end = self.model.num_rounds
        return self._piece(end - length, end, final=True)

    def _piece(self, begin: int, end: int, *, final: bool) -> Piece:
        key = (begin, end, final)
        if key not in self._made:
            self._made[key] = self._make(begin, end, final=final)
        return self._made[key]

    def _make(self, begin: int, end: int, *, final: bool) -> Piece:
        from scipy.sparse import csc_matrix

        model, base = self.model, int(self.bounds[begin])
        num_rows = self.sizes(begin, end)
        low, high = np.searchsorted(model.first, [begin, end])
        chosen = np.arange(low, high)
        chance = np.clip(model.probability[chosen], 1e-15, 0.5)
        rows = np.where(model.detectors[chosen] == BOUNDARY, BOUNDARY, model.detectors[chosen] - base)
        inside = (rows != BOUNDARY) & (rows < num_rows)
        columns = np.repeat(np.arange(len(chosen)), 2)[inside.ravel()]
        matrix = csc_matrix(
            (np.ones(len(columns), dtype=np.uint8), (rows.ravel()[inside.ravel()], columns)),
            shape=(num_rows, len(chosen)),
        )
        matcher = matching_library().Matching(
            matrix, weights=np.log((1 - chance) / chance), merge_strategy="smallest-weight"
        )
        until = end if final else begin + self.commit
        num_final = int(np.searchsorted(model.first[chosen], until))
        return Piece(matcher, num_rows, num_final, rows, model.observables[chosen])


class Stream:
    """One logical qubit whose syndromes come round by round.

    `push` takes the detectors of one round, 0 or 1 each, and decodes when a window is full; `close` decodes the rest.
    `frame` are the observables that the committed errors flip, as a bit mask, good for the rounds before `committed`.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._waiting: list[Bits] = []
        self._begin = 0
        self._at = 0
        self.rounds = 0
        self.frame = 0
        self.windows = 0

    @property
    def committed(self) -> int:
        """How many rounds are decided."""
        return self._begin

    def push(self, detectors: Bits) -> bool:
        """Take one round; returns whether a window was decoded. Raises `job.bad_request` for another number of bits."""
        pieces = self._pieces
        row = detectors if pieces.steady and self.rounds >= pieces.steady else None
        expected = self._round_size(self.rounds) if row is None else pieces.sizes(pieces.steady, pieces.steady + 1)
        if len(detectors) != expected:
            raise QedgeError(
                "job.bad_request",
                f"Round {self.rounds} has {expected} detectors, not {len(detectors)}.",
                fix="Send one bit per detector, in the order of the detectors.",
            )
        self._waiting.append(np.array(detectors, dtype=np.uint8))
        self.rounds += 1
        # a stream may end with any round, and its last rounds look different: one more has to be there
        if len(self._waiting) <= pieces.window:
            return False
        self._decode_middle()
        return True

    def _round_size(self, number: int) -> int:
        if number >= self._pieces.model.num_rounds:
            raise QedgeError("job.bad_request", f"The error model ends after {number} rounds.", fix="Close the stream.")
        return self._pieces.sizes(number, number + 1)

    def _decode_middle(self) -> None:
        pieces = self._pieces
        at, piece = pieces.middle(self._begin)
        syndrome = np.concatenate(self._waiting)
        self._apply(piece, syndrome, piece.num_final)
        dropped = pieces.sizes(at, at + pieces.commit)
        rest, self._waiting = syndrome[dropped:], []
        offset = 0
        for number in range(at + pieces.commit, at + pieces.window + 1):
            size = pieces.sizes(number, number + 1)
            self._waiting.append(rest[offset : offset + size])
            offset += size
        self._begin += pieces.commit
        self.windows += 1

    def _apply(self, piece: Piece, syndrome: Bits, num_final: int) -> None:
        """Decode, commit the first `num_final` columns, and take their detectors out of the running syndrome."""
        found = piece.matcher.decode(syndrome[: piece.num_rows])
        for column in np.flatnonzero(found[:num_final]).tolist():
            self.frame ^= int(piece.flips[column])
            for row in piece.rows[column].tolist():
                if row != BOUNDARY:
                    syndrome[row] ^= 1

    def close(self, last: Bits) -> int:
        """Take the detectors of the last round, which come from the data qubits, and return the frame.

        Raises `internal.unexpected` where the errors found do not explain the syndrome.
        """
        pieces = self._pieces
        self._waiting.append(np.array(last, dtype=np.uint8))
        self.rounds += 1
        piece = pieces.final(self._begin, len(self._waiting))
        syndrome = np.concatenate(self._waiting)
        if len(syndrome) != piece.num_rows:
            raise QedgeError("job.bad_request", "The last rounds have another number of detectors.")
        self._apply(piece, syndrome, len(piece.flips))
        if syndrome.any():
            raise QedgeError("internal.unexpected", "The decoder left a part of the syndrome unexplained.")
        self._begin = self.rounds
        self.windows += 1
        return self.frame


def memory_pieces(memory: Memory, window: int, commit: int) -> Pieces:
    """Return the matchers for a memory of any number of rounds: made from a short one that repeats itself."""

    def lasting(rounds: int) -> ErrorModel:
        return memory_errors(Memory(memory.code, memory.distance, rounds, memory.basis, memory.error_rate))

    # the shortest in which a steady window, and then every possible end, can be found; the last round is one more
    model = lasting(_STEADY_FROM + 2 * window + 2)
    return Pieces(model, window, commit, steady=_STEADY_FROM, exact=lambda rounds: lasting(max(1, rounds - 1)))
