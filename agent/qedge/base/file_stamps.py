"""Whether files were changed since they were read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FileStamps = tuple[tuple[int, int, int], ...]
"""Time of change in nanoseconds, size and inode of each; zeros for a file that is away."""


def file_stamps(paths: Iterable[str]) -> FileStamps:
    """Return what changes when one of the files does; empty names are left out."""
    stamps = []
    for path in paths:
        if path:
            try:
                found = Path(path).stat()
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
    return tuple(stamps)
