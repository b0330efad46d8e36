"""The folder of a demo: goes away with it, or where the demo was killed, with the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

PREFIX: Final = "qedge-demo-"
LOCK: Final = "demo.lock"


class DemoFolder:
    """A new folder in that of the system for such things; removes those that demos of this user left.

    A demo holds the lock in its folder for as long as it runs. A folder that `stays` has none, so none removes it:
    nodes may run in it.
    """

    def __init__(self, *, stays: bool = False) -> None:
        _remove_left(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = -1 if stays else _lock(self.path)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _lock(folder: Path) -> int:
    draft = folder / f"{LOCK}.new"
    number = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    draft.rename(folder / LOCK)  # nobody finds a lock that is not held yet
    return number


def _remove_left(place: Path) -> None:
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            seen = folder.lstat()
            if stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid():
                _check_left(folder)
                shutil.rmtree(folder, ignore_errors=True)


def _check_left(folder: Path) -> None:
    """Raise `OSError` where a demo holds the lock of a folder, or never had one."""
    number = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(number)
