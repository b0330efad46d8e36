"""The updater's files: journal, report, links between slots, and what it takes from the service's folder.

What the service may have put there is opened without following links, read within bounds, and copied to where the
service cannot write before anything looks at it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.crypto.durable_file import write_durably
from qedge.fleet.update.model import SLOTS, EndedUpdate, Journal, Layout
from qedge.wire.update import MAX_BUNDLE_BYTES, ReleaseKey, UpdateReport, UpdateRequest

JOURNAL: Final = "journal.json"
REPORT: Final = "report.json"
ENDED: Final = "ended.json"
REQUEST: Final = "request.json"
BUNDLE: Final = "taken.qup"
WHEELS: Final = "wheels"
NO_VERSION: Final = "0"
_MAX_SMALL: Final = 64 * 1024
_MAX_KEYS: Final = 16
_MAX_ENDED: Final = 64
_PIECE: Final = 2**20
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

T = TypeVar("T")
Used = TypeVar("Used")


class Disk:
    """All files of one installation. `owner` is the user whose files are trusted (root, but in tests)."""

    def __init__(self, layout: Layout, *, owner: int = 0) -> None:
        self.layout = layout
        self._owner = owner

    def prepare(self) -> None:
        """Make the updater's folder."""
        self.layout.work.mkdir(mode=0o755, exist_ok=True)

    def current_slot(self) -> str:
        """Return the slot that the service runs; raises `update.no_slots`."""
        return self._slot_of(self.layout.current)

    def _slot_of(self, link: Path) -> str:
        name = os.path.normpath(os.readlink(link)) if link.is_symlink() else ""
        name = Path(name).name if Path(name).parent in (Path("."), self.layout.root) else ""
        if name not in SLOTS:
            raise QedgeError(
                "update.no_slots",
                f"{link} does not lead to one of two environments side by side.",
                fix=f"Install into {self.layout.root}/a and run `qedge install --systemd` from there.",
            )
        return name

    def version_of(self, slot: str) -> str:
        """Return the version of the program in a slot by its installation records; `NO_VERSION` where there is none."""
        found = sorted(self.layout.slot(slot).glob("lib/python3*/site-packages/qedge-*.dist-info"))
        return found[0].name.removeprefix("qedge-").removesuffix(".dist-info") if found else NO_VERSION

    def empty(self, slot: str) -> None:
        """Remove the environment of a slot."""
        shutil.rmtree(self.layout.slot(slot), ignore_errors=True)

    def point(self, link: Path, slot: str) -> None:
        """Let a link lead to a slot, at once or not at all, and for good."""
        draft = link.with_name(f".{link.name}.new")
        draft.unlink(missing_ok=True)
        draft.symlink_to(slot)
        draft.replace(link)
        _sync_folder(link.parent)

    def read_journal(self) -> Journal | None:
        """Return the update under way; None: there is none."""
        return self._read(self.layout.work / JOURNAL, Journal)

    def write_journal(self, journal: Journal) -> None:
        """Write it down for good."""
        write_durably(self.layout.work / JOURNAL, msgspec.json.encode(journal), 0o644)

    def drop_journal(self) -> None:
        """The update is over."""
        (self.layout.work / JOURNAL).unlink(missing_ok=True)
        _sync_folder(self.layout.work)

    def read_report(self) -> UpdateReport | None:
        """Return how the last update ended; None: there was none."""
        return self._read(self.layout.work / REPORT, UpdateReport)

    def write_report(self, report: UpdateReport) -> None:
        """Write down how it ended."""
        write_durably(self.layout.work / REPORT, msgspec.json.encode(report), 0o644)

    def read_ended(self) -> tuple[EndedUpdate, ...]:
        """Return how the newest updates ended, oldest first; raises `update.bad_request` for what cannot be read."""
        return self._read(self.layout.work / ENDED, tuple[EndedUpdate, ...]) or ()

    def note_end(self, ended: EndedUpdate) -> None:
        """Remember how an update ended, once, beside those before; a file that cannot be read begins anew."""
        try:
            known = self.read_ended()
        except QedgeError:
            known = ()
        if all(each.report.id != ended.report.id for each in known):
            kept = (*known, ended)[-_MAX_ENDED:]
            write_durably(self.layout.work / ENDED, msgspec.json.encode(kept), 0o644)

    def read_request(self) -> UpdateRequest | None:
        """Return what the daemon asks for; None: nothing. Raises `update.bad_request` for what is no request."""
        found = self._in_staging(REQUEST, lambda file: file.read(_MAX_SMALL))
        if found is None:
            return None
        try:
            return msgspec.json.decode(found, type=UpdateRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise QedgeError(
                "update.bad_request", "The request to the updater cannot be read.", fix="Order the update again."
            ) from error

    def drop_request(self) -> None:
        """Remove the request, every bundle that was staged and copies of databases; none there is no fault."""
        try:
            folder = os.open(self.layout.state, _FOLDER)
        except OSError:
            return
        try:
            staging = os.open("update", _FOLDER, dir_fd=folder)
        except OSError:
            return
        finally:
            os.close(folder)
        try:
            for name in os.listdir(staging):
                if name == REQUEST or name.endswith((".qup", ".part", ".before")):
                    # A folder of such a name is nothing of ours, and must not hold up the end.
                    with contextlib.suppress(OSError):
                        os.unlink(name, dir_fd=staging)
        finally:
            os.close(staging)

    def take(self, name: str, sha256: str) -> None:
        """Copy a staged bundle to where the service cannot write; raises `update.bad_bundle` where its hash differs."""
        if self._in_staging(name, lambda file: self.take_from(file, sha256)) is None:
            raise QedgeError("update.bad_bundle", "The staged bundle is not there.", fix="Order the update again.")

    def take_from(self, source: BinaryIO, sha256: str) -> bool:
        """Copy a bundle from an open file; as `take`. An empty `sha256`: whatever is in it."""
        digest, left = hashlib.sha256(), MAX_BUNDLE_BYTES
        target = self.layout.work / BUNDLE
        target.unlink(missing_ok=True)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as copy:
            while piece := source.read(min(_PIECE, left + 1)):
                left -= len(piece)
                if left < 0:
                    break
                digest.update(piece)
                copy.write(piece)
        if left < 0 or (sha256 and digest.hexdigest() != sha256):
            target.unlink()
            raise QedgeError(
                "update.bad_bundle", "The staged bundle is not the one that was ordered.", fix="Order the update again."
            )
        return True

    def taken(self) -> Path:
        """Return the path of the bundle that was taken."""
        return self.layout.work / BUNDLE

    def fresh_wheels(self) -> Path:
        """Return the folder for the files of the bundle, empty."""
        folder = self.layout.work / WHEELS
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o755)
        return folder

    def wheels(self) -> Path:
        """Return the folder of the files of the bundle."""
        return self.layout.work / WHEELS

    def clear(self) -> None:
        """Remove the bundle and its files."""
        (self.layout.work / BUNDLE).unlink(missing_ok=True)
        shutil.rmtree(self.layout.work / WHEELS, ignore_errors=True)

    def release_keys(self) -> list[ReleaseKey]:
        """Return the keys whose bundles this box takes.

        Raises `update.no_key` for a file or folder that another user than root may write: it would prove nothing.
        """
        return read_release_keys(self.layout.keys, owner=self._owner)

    def _in_staging(self, name: str, use: Callable[[BinaryIO], Used]) -> Used | None:
        """Open a plain file of the staging folder, following no links; None where it is not there."""
        try:
            folder = os.open(self.layout.state, _FOLDER)
            try:
                staging = os.open("update", _FOLDER, dir_fd=folder)
            finally:
                os.close(folder)
            try:
                descriptor = os.open(name, _PLAIN, dir_fd=staging)
            finally:
                os.close(staging)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return use(file)

    def _read(self, path: Path, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # Files here are written whole; one that cannot be read came from elsewhere.
            raise QedgeError("update.bad_request", f"{path} cannot be read.", fix="Remove it.") from error


def read_release_keys(folder: Path, *, owner: int | None = None) -> list[ReleaseKey]:
    """Read all `*.json` of a folder; with `owner`, raises `update.no_key` for what another user may write."""
    paths = sorted(folder.glob("*.json"))[:_MAX_KEYS]
    for path in (folder, *paths) if paths else ():
        facts = path.stat()
        if owner is not None and (facts.st_uid != owner or facts.st_mode & 0o022):
            raise QedgeError(
                "update.no_key",
                f"{path} can be written by others than root, so its keys prove nothing.",
                fix=f"chown root {path}; chmod go-w {path}",
            )
    return [read_release_key(path) for path in paths]


def read_release_key(path: Path) -> ReleaseKey:
    """Read the public half of one release key; raises `update.no_key`."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_SMALL), type=ReleaseKey)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QedgeError("update.no_key", f"{path} is no public release key.", fix="See `qedge update key`.") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
