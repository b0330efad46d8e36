"""Removing everything that a node is: identity, keys and state, so that what comes back is a new box.

Only names that this program gives are removed, only in a folder that has its database, and links are not followed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from qedge.crypto.durable_file import write_durably

MARK: Final = "wipe.requested"
_FILES: Final = (
    "qedge.sqlite3",
    "keys.sqlite3",
    "spool.sqlite3",
    "telemetry.sqlite3",
    "keys.wrap",
    "qedge.reserve",
    "keys.reserve",
    "spool.reserve",
    "telemetry.reserve",
    "sparkplug.bdseq",
)
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal", ".new")
_FOLDERS: Final = ("audit", "conf.d", "diagnostics", "drivers", "fleet", "requests", "update", "web", "policy")
_BLOCK: Final = 2**20


def mark_for_wiping(state_dir: Path, why: str) -> None:
    """Write down that the node is to be wiped; raises `OSError`."""
    write_durably(state_dir / MARK, why.encode())


def wipe_if_marked(state_dir: Path) -> bool:
    """Remove everything where the mark is there; a removal that was interrupted goes on. Says whether it was."""
    if not (state_dir / MARK).is_file() or (state_dir / MARK).is_symlink():
        return False
    for name in _FILES:
        for suffix in _SUFFIXES:
            _remove(state_dir / f"{name}{suffix}")
    for name in _FOLDERS:
        folder = state_dir / name
        if folder.is_dir() and not folder.is_symlink():
            for path in folder.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    _remove(path)
            shutil.rmtree(folder, ignore_errors=True)
    _remove(state_dir / MARK)
    return True


def _remove(path: Path) -> None:
    """Overwrite a file once and remove it: on flash that is no more than a courtesy, so secrets are sealed besides."""
    if path.is_symlink() or not path.is_file():
        path.unlink(missing_ok=True)
        return
    left = path.stat().st_size
    with path.open("r+b") as file:
        while left > 0:
            left -= file.write(bytes(min(left, _BLOCK)))
        file.flush()
        os.fsync(file.fileno())  # or the blocks would be freed as they were
    path.unlink()
