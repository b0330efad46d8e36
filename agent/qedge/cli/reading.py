"""Files that a command line names."""

from __future__ import annotations

from pathlib import Path

from qedge.base.errors import QedgeError


def read_file(path: str, limit: int) -> bytes:
    """Read at most `limit` bytes of a file; raises `client.file`."""
    try:
        with Path(path).open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise QedgeError(
            "client.file", f"{path} cannot be read: {error.strerror or error}.", fix="Name a readable file."
        ) from error
