"""The bundle: an uncompressed zip of `manifest.json`, `signatures.json` and the files that the manifest names.

Nothing of it is believed before both signatures are checked but what bounds the reading: the size of the directory, the
number of entries and the size of the first two. After that only files of the manifest are written, each under its plain
name, with exactly the size and hash that were signed.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.fleet.update.ports import Verify
from qedge.fleet.update.signing import require_signed
from qedge.wire.update import MAX_BUNDLE_BYTES, MAX_FILES, BundleFile, Manifest, ManifestSignatures, ReleaseKey

MANIFEST: Final = "manifest.json"
SIGNATURES: Final = "signatures.json"
MAX_MANIFEST_BYTES: Final = 256 * 1024
MAX_SIGNATURES_BYTES: Final = 128 * 1024
_MAX_DIRECTORY_BYTES: Final = 512 * 1024
_END: Final = struct.Struct("<4s4H2LH")
_END_SIGNATURE: Final = b"PK\x05\x06"
_LONG_LOCATOR: Final = b"PK\x06\x07"
_LONG_LOCATOR_BYTES: Final = 20
_PIECE: Final = 2**20
_DAMAGED: Final = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    OverflowError,
    MemoryError,
)
"""What reading a damaged zip may raise."""

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Opened:
    """An open bundle whose form is right; `signed` are the bytes of the manifest. Nothing in it is verified yet."""

    archive: zipfile.ZipFile
    signed: bytes
    manifest: Manifest
    signatures: ManifestSignatures


def open_bundle(file: BinaryIO) -> Opened:
    """Read manifest and signatures of a bundle and see that entries and manifest agree; raises `update.bad_bundle`.

    Takes little time and memory, whatever is in the file.
    """
    try:
        _bound(file)
        archive = zipfile.ZipFile(file)
        entries = archive.infolist()
        by_name = {entry.filename: entry for entry in entries}
        if len(by_name) != len(entries):
            raise _bad("has two files of one name")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                raise _bad("is compressed")
        signed = _small(archive, by_name, MANIFEST, MAX_MANIFEST_BYTES)
        signatures = _decode(_small(archive, by_name, SIGNATURES, MAX_SIGNATURES_BYTES), ManifestSignatures, SIGNATURES)
    except _DAMAGED as error:
        raise _bad("cannot be read") from error
    manifest = _decode(signed, Manifest, MANIFEST)
    files = {each.name: each.size for each in manifest.files}
    if len(files) != len(manifest.files) or files.keys() & {MANIFEST, SIGNATURES}:
        raise _bad("names a file twice")
    if files != {name: entry.file_size for name, entry in by_name.items() if name not in (MANIFEST, SIGNATURES)}:
        raise _bad("does not hold the files that its manifest names")
    if sum(files.values()) > MAX_BUNDLE_BYTES:
        raise _bad("is too large")
    return Opened(archive, signed, manifest, signatures)


def verify_bundle(opened: Opened, keys: Iterable[ReleaseKey], verify: Verify) -> ReleaseKey:
    """Check both signatures; returns the key that made them. Raises `update.bad_signature`, `update.no_key`."""
    return require_signed(opened.signed, opened.signatures, keys, verify)


def check_files(opened: Opened) -> None:
    """Compare every file with its hash, writing nothing; raises `update.bad_bundle`."""
    for each in opened.manifest.files:
        _copy(opened.archive, each, None)


def unpack(opened: Opened, folder: Path) -> None:
    """Write every file of the manifest into an empty folder; raises `update.bad_bundle` for one that is not as signed.

    Names have no folders in them (the manifest's struct sees to it), and no file is written over.
    """
    for each in opened.manifest.files:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(folder / each.name, flags, 0o644), "wb") as target:
            _copy(opened.archive, each, target)


def _copy(archive: zipfile.ZipFile, each: BundleFile, target: BinaryIO | None) -> None:
    digest, left = hashlib.sha256(), each.size
    try:
        source = archive.open(each.name)
    except (*_DAMAGED, KeyError) as error:
        raise _bad(f"has a damaged file {each.name}") from error
    with source:
        while True:
            try:
                piece = source.read(min(_PIECE, left + 1))
            except _DAMAGED as error:
                raise _bad(f"has a damaged file {each.name}") from error
            if not piece:
                break
            left -= len(piece)
            if left < 0:
                break
            digest.update(piece)
            if target is not None:
                target.write(piece)
    if left or digest.hexdigest() != each.sha256:
        raise _bad(f"has a file {each.name} that is not the one that was signed")


def _bound(file: BinaryIO) -> None:
    """Look at the end of the file alone, so that no huge directory is read."""
    size = file.seek(0, os.SEEK_END)
    if not _END.size < size <= MAX_BUNDLE_BYTES:
        raise _bad("has no sensible size")
    file.seek(max(0, size - _END.size - _LONG_LOCATOR_BYTES))
    tail = file.read(_END.size + _LONG_LOCATOR_BYTES)
    signature, _, _, here, entries, directory, offset, comment = _END.unpack(tail[-_END.size :])
    if signature != _END_SIGNATURE or comment or tail.startswith(_LONG_LOCATOR):
        raise _bad("is no bundle")
    if here != entries or entries > MAX_FILES + 2 or directory > _MAX_DIRECTORY_BYTES:
        raise _bad("has too many files")
    if offset + directory + _END.size != size:
        raise _bad("has something before or behind its files")


def _small(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], name: str, limit: int) -> bytes:
    entry = entries.get(name)
    if entry is None or entry.file_size > limit:
        raise _bad(f"has no {name} of sensible size")
    return archive.read(entry)


def _decode(data: bytes, kind: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(f"has a {name} that cannot be read") from error


def _bad(what: str) -> QedgeError:
    return QedgeError(
        "update.bad_bundle", f"The bundle {what}.", fix="Fetch it again, or make it again with `qedge update bundle`."
    )
