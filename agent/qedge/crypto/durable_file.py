"""Files that are there as a whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file anew, with exactly these permissions, and see it onto the disk; raises `OSError`."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)  # a leftover could have wider permissions
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
