"""Large values of rows, packed: results are written up to three times in a mesh, on disks that are often flash.

zlib works without Python's lock; what is small is left as it is. Decision 0120.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

import msgspec

_MARK: Final = b"\xc1"
"""A byte that msgpack never uses, so that a value which is not packed cannot begin with it."""

_LARGE_BYTES: Final = 16_384
_LEVEL: Final = 1
_ENCODE: Final = msgspec.msgpack.Encoder().encode
MAX_BYTES: Final = 1 << 28


def pack(value: bytes) -> bytes:
    """Pack msgpack, where it is large and gets smaller by that."""
    if len(value) <= _LARGE_BYTES:
        return value
    packed = _MARK + zlib.compress(value, _LEVEL)
    return packed if len(packed) < len(value) else value


async def packed(value: object) -> bytes:
    """Encode a value and pack it; a large one beside the event loop and the store's thread, for which others wait."""
    encoded = _ENCODE(value)
    return encoded if len(encoded) <= _LARGE_BYTES else await asyncio.to_thread(pack, encoded)


def unpack(value: bytes) -> bytes:
    """Return what was packed; raises `msgspec.DecodeError` for damaged data, or for more than 256 MiB."""
    if not value.startswith(_MARK):
        return value
    reader = zlib.decompressobj()
    try:
        found = reader.decompress(value[1:], MAX_BYTES)
    except zlib.error as error:
        raise msgspec.DecodeError(f"a packed value is damaged: {error}") from error
    if not reader.eof:
        raise msgspec.DecodeError("a packed value is cut short or too large")
    return found
