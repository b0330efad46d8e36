"""A file that only grows, one process at a time, every addition on the disk before the call returns."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from qedge.base.errors import QedgeError


class LockedFile:
    """An open file with an exclusive lock; raises `fleet.busy` where another process has it, `fleet.folder`.

    With `wait` the lock is waited for: for files that are held for an instant.
    """

    def __init__(self, path: Path, *, new: bool = False, wait: bool = False) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_CREAT | (os.O_EXCL if new else 0)
        self._path = path
        fresh = not path.exists()
        try:
            self._number = os.open(path, flags, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(self._number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if fresh:
                folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        except BlockingIOError:
            os.close(self._number)
            raise QedgeError(
                "fleet.busy", f"Another program works on {path}.", fix="Let it end, or end it, then go on."
            ) from None
        except OSError as error:
            os.close(self._number)
            raise self._unusable(error) from error

    def __enter__(self) -> LockedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self) -> bytes:
        """Return all of it."""
        size = os.fstat(self._number).st_size
        return os.pread(self._number, size, 0)

    def tail(self, limit: int) -> bytes:
        """Return at most the last `limit` bytes."""
        size = os.fstat(self._number).st_size
        return os.pread(self._number, min(size, limit), max(0, size - limit))

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return os.fstat(self._number).st_size

    def append(self, data: bytes) -> None:
        """Add bytes and see them onto the disk; raises `fleet.folder`, and then nothing was added."""
        size = self.size
        try:
            at = 0
            while at < len(data):
                at += os.pwrite(self._number, data[at:], size + at)
            os.fsync(self._number)
        except OSError as error:
            with contextlib.suppress(OSError):  # the next reader passes over a line that is not whole
                os.ftruncate(self._number, size)
            raise self._unusable(error) from error

    def replace(self, data: bytes) -> None:
        """Write few bytes in place of all that was there; one write, so whole or not at all."""
        try:
            os.pwrite(self._number, data, 0)
            os.ftruncate(self._number, len(data))
            os.fsync(self._number)
        except OSError as error:
            raise self._unusable(error) from error

    def cut(self, size: int) -> None:
        """Drop what is behind `size` bytes."""
        os.ftruncate(self._number, size)
        os.fsync(self._number)

    def close(self) -> None:
        """Give up the lock."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1

    def _unusable(self, error: OSError) -> QedgeError:
        return QedgeError(
            "fleet.folder",
            f"{self._path} cannot be used: {error.strerror or error}.",
            fix="Name another folder with --operator-folder, or make room.",
        )
