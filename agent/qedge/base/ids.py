"""Identifiers: UUIDv7 for jobs, commands and incidents (RFC 9562 §5.7), names of fleets and nodes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Final

RandomBytes = Callable[[int], bytes]
"""Give `n` random bytes. Rooms get one from the entropy pool; tests give a seeded one."""

NAME_PATTERN: Final = r"^[A-Za-z0-9_-]{1,36}$"
"""Fleet, node and driver-instance names: one MQTT topic segment of DESIGN.md §4."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,36}")


class DrawnAhead:
    """Random bytes drawn `piece` at a time, since a draw costs 50 µs, whether of four bytes or of four thousand.

    For what is sent in clear (nonces, key ids), and within one call for many secrets; a secret that is wanted later is
    drawn when it is wanted.
    """

    def __init__(self, random_bytes: RandomBytes, piece: int = 1024) -> None:
        self._random_bytes = random_bytes
        self._piece = piece
        self._data = b""
        self._at = 0

    def __call__(self, number: int) -> bytes:
        """Return the next `number` bytes, which nobody gets again."""
        end = self._at + number
        if end > len(self._data):
            self._data, self._at, end = self._random_bytes(max(self._piece, number)), 0, number
        part = self._data[self._at : end]
        self._at = end
        return part


def is_name(text: str) -> bool:
    """Say whether `text` may be a fleet, node or driver-instance name."""
    return _NAME.fullmatch(text) is not None


def uuid7(utc_ns: int, random_bytes: RandomBytes) -> str:
    """Make a UUIDv7 (RFC 9562 §5.7): 48 bits of milliseconds since 1970, then 74 random bits; lower-case text."""
    value = ((utc_ns // 1_000_000) & (2**48 - 1)) << 80
    value |= int.from_bytes(random_bytes(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def is_uuid(text: str) -> bool:
    """Say whether `text` is a UUID in its canonical lower-case form."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
