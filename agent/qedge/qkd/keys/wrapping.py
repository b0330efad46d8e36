"""The wrapping key in its file: made once, for the owner alone, on the disk before anything is sealed under it."""

from __future__ import annotations

import os
from pathlib import Path

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.durable_file import write_durably
from qedge.qkd.keys.vault import KEY_BYTES, Vault


def open_vault(path: Path, random_bytes: RandomBytes, *, make: bool) -> Vault:
    """Return the vault of the wrapping key at `path`; with `make` a missing one is made there.

    Raises `qkd.wrong_wrapping_key` where the file cannot be read, is of another size, or others may read it.
    """
    try:
        if make and not path.exists():
            write_durably(path, random_bytes(KEY_BYTES))
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise _unusable(path, str(error.strerror or error)) from error
    if len(key) != KEY_BYTES:
        raise _unusable(path, f"it has not {KEY_BYTES} bytes")
    if mode & 0o077:
        raise _unusable(path, "others than its owner may read it")
    return Vault(key)


def _unusable(path: Path, why: str) -> QedgeError:
    return QedgeError(
        "qkd.wrong_wrapping_key",
        f"The wrapping key {path} of the key store cannot be used: {why}.",
        fix="Put a file of 32 random bytes there, readable by qedge alone (chmod 0600).",
    )
