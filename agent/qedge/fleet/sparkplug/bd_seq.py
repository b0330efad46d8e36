"""Counts CONNECT packets across restarts, on a full disk too: two records that are written over in turn.

A record is `total` (8 bytes), the descriptor's digest (16) and the CRC-32 of both (4), in big-endian order. The file
has its size from the beginning, so that writing needs no room; one of the two records is whole whatever happens to the
other.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import zlib
from pathlib import Path
from typing import Final

from qedge.fleet.sparkplug.model import COUNTER

_RECORD: Final = struct.Struct(">Q16s")
_SLOT_BYTES: Final = 4096
"""Each record has a block of its own."""


class BdSeqFile:
    """The counter of one descriptor (group and node); another descriptor begins at 0.

    tck-id-topics-nbirth-bdseq-increment, tck-id-message-flow-edge-node-birth-publish-will-message-payload-bdSeq:
    from 0, one more for every CONNECT, 0 after 255.
    """

    def __init__(self, path: Path, descriptor: str) -> None:
        self._path = path
        self._digest = hashlib.sha256(descriptor.encode()).digest()[:16]
        self._total = -1

    def take(self) -> int:
        """Return the next number and see it onto the disk first; raises `OSError`."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(file).st_size < 2 * _SLOT_BYTES:
                os.pwrite(file, bytes(2 * _SLOT_BYTES), 0)
                _sync_folder(self._path.parent)
            if self._total < 0:
                self._total = self._read(file)
            body = _RECORD.pack(self._total + 1, self._digest)
            record = body + zlib.crc32(body).to_bytes(4, "big")
            os.pwrite(file, record, (self._total % 2) * _SLOT_BYTES)
            os.fsync(file)
        finally:
            os.close(file)
        self._total += 1
        return (self._total - 1) % COUNTER

    def _read(self, file: int) -> int:
        """Return how many numbers were taken, 0 where the file does not tell."""
        found = 0
        for slot in (0, 1):
            record = os.pread(file, _RECORD.size + 4, slot * _SLOT_BYTES)
            body, check = record[: _RECORD.size], record[_RECORD.size :]
            if len(check) == 4 and zlib.crc32(body) == int.from_bytes(check, "big"):
                total, digest = _RECORD.unpack(body)
                found = max(found, total if digest == self._digest else 0)
        return found


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
