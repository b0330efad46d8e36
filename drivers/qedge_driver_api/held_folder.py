"""Folders for a while: they go away with who made them, or where that was killed, with the next one of their kind.

It stands beside the contract because the conformance kit needs it and takes nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

LOCK: Final = "held.lock"


class HeldFolder:
    """A new folder in that of the system for such things; removes those of its kind that this user's programs left.

    Who made it holds the lock in it for as long as it runs. A folder that `stays` has none, so none removes it. `with`
    removes it at the end.
    """

    def __init__(self, prefix: str, *, lock: str = LOCK, stays: bool = False) -> None:
        """`prefix` is the beginning of the names of this kind, `lock` the name of the file in the folder."""
        _remove_left(Path(tempfile.gettempdir()), prefix, lock)
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        self._lock = -1 if stays else _lock(self.path, lock)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _lock(folder: Path, name: str) -> int:
    draft = folder / f"{name}.new"
    number = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    draft.rename(folder / name)  # nobody finds a lock that is not held yet
    return number


def _remove_left(place: Path, prefix: str, lock: str) -> None:
    for folder in place.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            seen = folder.lstat()
            if stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid():
                _check_left(folder, lock)
                shutil.rmtree(folder, ignore_errors=True)


def _check_left(folder: Path, lock: str) -> None:
    """Raise `OSError` where somebody holds the lock of a folder, or never had one."""
    number = os.open(folder / lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(number)
