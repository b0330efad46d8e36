"""Messages that are too large for one packet, in pieces. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from qedge.base.errors import QedgeError
from qedge.wire.session import Part

MAX_MESSAGE_BYTES: Final = 64 * 2**20
MAX_OPEN: Final = 8
"""Unfinished messages of one peer; the oldest makes room for a new one."""

MAX_SENT: Final = MAX_OPEN // 2
"""Messages in parts that a node sends a peer at once, so that none of them has to make room at the peer; the other half
is for what was given up half-way."""


def split(data: bytes, part_bytes: int, message_id: int) -> Iterator[Part]:
    """Cut `data` into parts of at most `part_bytes` bytes; raises `bus.too_large` above 64 MiB."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise QedgeError("bus.too_large", f"A message of {len(data)} bytes is over the limit of {MAX_MESSAGE_BYTES}.")
    count = max(1, -(-len(data) // part_bytes))
    for index in range(count):
        yield Part(message_id, index, count, data[index * part_bytes : (index + 1) * part_bytes])


class Assembler:
    """Puts the parts of one peer's messages together, in any order, within a bound of memory."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._open: dict[int, dict[int, bytes]] = {}
        self._counts: dict[int, int] = {}
        self._held_bytes = 0

    def take(self, part: Part) -> bytes | None:
        """Take a part and return the whole message after the last; raises `bus.bad_message`, `bus.too_large`."""
        if part.index >= part.count or part.count != self._counts.setdefault(part.id, part.count):
            raise QedgeError("bus.bad_message", "The parts of a message do not fit together.")
        pieces = self._open.setdefault(part.id, {})
        if part.index in pieces:
            raise QedgeError("bus.bad_message", "A part of a message came twice.")
        pieces[part.index] = part.data
        self._held_bytes += len(part.data)
        while len(self._open) > MAX_OPEN or self._held_bytes > self._max_bytes:
            oldest = next(iter(self._open))
            self._drop(oldest)
            if oldest == part.id:
                raise QedgeError("bus.too_large", "A message in parts is over the limit.", limit=self._max_bytes)
        if len(pieces) < part.count:
            return None
        self._drop(part.id)
        return b"".join(pieces[index] for index in range(part.count))

    def _drop(self, message_id: int) -> None:
        self._held_bytes -= sum(len(piece) for piece in self._open.pop(message_id).values())
        del self._counts[message_id]
