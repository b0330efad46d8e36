"""Writes a bundle of diagnostics: a tar.gz of text files, each redacted and none longer than it may be."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from qedge.base.errors import QedgeError
from qedge.fleet.diagnostics.redaction import Redactor
from qedge.wire.diagnostics import BundleFile, DiagnosticsSummary

MAX_FILE_BYTES: Final = 4 * 2**20
_CUT: Final = "[the beginning was left out]\n"
_FOLDER: Final = "qedge-diagnostics"


def write_bundle(
    target: Path, texts: Mapping[str, str], secrets: Iterable[bytes], utc_ns: int, limit_bytes: int = MAX_FILE_BYTES
) -> DiagnosticsSummary:
    """Write `texts` (name → content) to `target`, which must not be there yet and which this user alone may read.

    Of a text longer than `limit_bytes` the end is kept. Raises `diagnostics.unwritable`.
    """
    redactor, files, buffer = Redactor(secrets), list[BundleFile](), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
        for name, text in texts.items():
            # redacted before it is cut, so that no half of a secret is left at the cut
            content, cut = _ending(redactor.redact(text).encode(errors="replace"), limit_bytes)
            member = tarfile.TarInfo(f"{_FOLDER}/{name}")
            member.size, member.mtime, member.mode = len(content), utc_ns // 10**9, 0o600
            archive.addfile(member, io.BytesIO(content))
            files.append(BundleFile(name, len(content), cut))
    data = buffer.getvalue()
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise QedgeError(
            "diagnostics.unwritable",
            f"The bundle {target} cannot be written: {error.strerror}.",
            fix="Name another file, in a folder that this user may write to, with --output.",
            path=str(target),
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    return DiagnosticsSummary(str(target), len(data), digest, redactor.count, tuple(files))


def _ending(content: bytes, limit_bytes: int) -> tuple[bytes, bool]:
    if len(content) <= limit_bytes:
        return content, False
    kept = content[-(limit_bytes - len(_CUT)) :]
    return _CUT.encode() + kept.decode(errors="ignore").encode(), True
