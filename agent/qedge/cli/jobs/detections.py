"""Detection events in the formats `01` and `b8` of stim, cut into rounds as they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from qedge.base.errors import QedgeError
from qedge.wire.decode import DecodeOpened

Format = Literal["01", "b8"]
_ZERO: Final = ord("0")
_ONE: Final = ord("1")
_NEW_LINE: Final = ord("\n")
_IGNORED: Final = frozenset(b"\r")


@dataclass(frozen=True, slots=True)
class Round:
    """One round, 0 or 1 per detector; `closing` for the last one of its record."""

    events: tuple[int, ...]
    closing: bool


class Detections:
    """Cuts records, each the whole detection events of one shot, into rounds.

    `rounds` is the number of rounds of a record, the closing one included. Records of `01` end with their line, so that
    it may be 0 for them: any number; then a round is given out once the detectors of a closing one came after it.
    """

    def __init__(self, opened: DecodeOpened, records: Format, rounds: int) -> None:
        self._sizes = opened.detectors
        self._closing = opened.closing
        self._records: Format = records
        self._rounds = opened.rounds or rounds
        if records == "b8" and not self._rounds:
            raise QedgeError(
                "client.usage", "Records of b8 do not say where they end.", fix="Give the number of rounds: --rounds N."
            )
        if self._rounds == 1:
            raise QedgeError("client.usage", "A record has at least two rounds: one, and the closing one.")
        self._bits: list[int] = []
        self._number = 0

    @property
    def between(self) -> bool:
        """Say whether no record has begun that has not ended."""
        return not self._bits and not self._number

    def feed(self, data: bytes) -> Iterator[Round]:
        """Take bytes as they come and give the rounds that are whole now."""
        for byte in data:
            if self._records == "b8":
                yield from self._take_byte(byte)
            elif byte in (_ZERO, _ONE):
                yield from self._take(byte - _ZERO)
            elif byte == _NEW_LINE:
                yield from self._end_of_line()
            elif byte not in _IGNORED:
                raise _wrong(f"byte {byte} is neither 0, 1 nor a new line")

    def end(self) -> Iterator[Round]:
        """Take the end of the file, which may stand for that of the last line."""
        if self._records == "01":
            yield from self._end_of_line()
        if not self.between:
            raise _wrong(f"it ends in round {self._number} of a record")

    def _take_byte(self, byte: int) -> Iterator[Round]:
        for place in range(8):
            for each in self._take(byte >> place & 1):
                yield each
                if each.closing:
                    return  # the rest of the byte fills the record up

    def _take(self, bit: int) -> Iterator[Round]:
        self._bits.append(bit)
        if self._rounds:
            closing = self._number == self._rounds - 1
            if len(self._bits) == (self._closing if closing else self._size()):
                yield self._cut(closing=closing)
        elif len(self._bits) == self._size() + self._closing:
            yield self._cut(closing=False)

    def _end_of_line(self) -> Iterator[Round]:
        if self.between:
            return
        if self._rounds or not self._number or len(self._bits) != self._closing:
            raise _wrong(f"a record ends with {len(self._bits)} detectors in round {self._number}")
        yield self._cut(closing=True)

    def _cut(self, *, closing: bool) -> Round:
        size = self._closing if closing else self._size()
        events, self._bits = tuple(self._bits[:size]), self._bits[size:]
        self._number = 0 if closing else self._number + 1
        return Round(events, closing)

    def _size(self) -> int:
        return self._sizes[min(self._number, len(self._sizes) - 1)]


def _wrong(what: str) -> QedgeError:
    return QedgeError(
        "client.data", f"The detection events cannot be read: {what}.", fix="Check --format, --rounds and the model."
    )
