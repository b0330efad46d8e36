"""The files of one trail: appended to, seen onto the disk, closed at their size, the oldest removed.

Used by one thread. A file's name has the sequence number of its first row. A line that a crash cut off is removed at
the next start, which is written down; a row that was altered is left where it is, and verification finds it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from qedge.crypto.durable_file import write_durably
from qedge.crypto.keys import SigningKey
from qedge.security.audit.row import START, make_checkpoint, open_line, seal
from qedge.security.audit.verify import TrailCheck
from qedge.wire.audit import AuditKind, AuditRow, AuditTrail, Checkpoint

_BLOCK: Final = 1 << 17


class TrailFiles:
    """Opens the newest file at construction; raises `OSError`."""

    def __init__(
        self, folder: Path, trail: AuditTrail, key: SigningKey, *, max_bytes: int, max_files: int, utc_ns: int
    ) -> None:
        self._folder = folder
        self._trail = trail
        self._key = key
        self._max_bytes = max_bytes
        self._max_files = max_files
        self.sequence = 0
        self.head = START
        self.vouched = 0
        """Sequence number of the newest row that a checkpoint covers."""

        self._fd = -1
        self._size = 0
        files = list_files(folder, trail)
        cut = self._resume(files[-1]) if files else 0
        if not files:
            self._open(1)
        if not self._size or self._is_anothers():
            self.checkpoint(utc_ns, anew=True)
        if cut:
            self.append([AuditRow(0, utc_ns, AuditKind.RECOVERED, START, facts={"bytes_cut_off": cut})])

    def append(self, rows: Sequence[AuditRow]) -> int:
        """Number, chain and write rows, and see them onto the disk; returns the number of the last.

        Raises `OSError`; then the file is as it was.
        """
        sequence, head = self.sequence, self.head
        lines = []
        for row in rows:
            sequence += 1
            line, head = seal(msgspec.structs.replace(row, sequence=sequence, previous=head))
            lines.append(line)
        data = b"".join(lines)
        try:
            _write_all(self._fd, data)
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)
        self.sequence, self.head = sequence, head
        return sequence

    @property
    def size(self) -> int:
        """Bytes of the newest file."""
        return self._size

    def turn(self, utc_ns: int) -> Checkpoint | None:
        """Begin a new file where this one has its size; its first row vouches for the last of the old one."""
        if self._size < self._max_bytes:
            return None
        old, size = self._fd, self._size
        self._open(self.sequence + 1)
        try:
            made = self.checkpoint(utc_ns, anew=True)
        except OSError:
            self._file(self.sequence + 1).unlink(missing_ok=True)
            os.close(self._fd)
            self._fd, self._size = old, size
            raise
        os.close(old)
        for path in list_files(self._folder, self._trail)[: -self._max_files]:
            path.unlink(missing_ok=True)
        _sync_folder(self._folder)
        return made

    def checkpoint(self, utc_ns: int, *, anew: bool = False) -> Checkpoint | None:
        """Vouch for all rows so far, unless that was done; the newest checkpoint is also kept beside the files."""
        if not self.sequence or (self.vouched >= self.sequence and not anew):
            return None
        checkpoint = make_checkpoint(self._trail, self.sequence, self.head, utc_ns, self._key)
        row = AuditRow(0, utc_ns, AuditKind.CHECKPOINT, START, checkpoint=checkpoint)
        # What is vouched for is on the disk by now, so a crash between these two loses nothing.
        write_durably(latest_path(self._folder, self._trail), msgspec.json.encode(checkpoint))
        self.append([row])
        self.vouched = self.sequence
        return checkpoint

    def has(self, checkpoint: Checkpoint) -> bool:
        """Say whether the row that a checkpoint vouches for is there as it was, or was removed with its file."""
        if checkpoint.sequence >= self.sequence:
            return checkpoint.sequence == self.sequence and checkpoint.hash == self.head
        files = list_files(self._folder, self._trail)
        if checkpoint.sequence + 1 < _first(files[0]):
            return True
        holding = [path for path in files if _first(path) <= checkpoint.sequence + 1][-1]
        return f'"previous":"{checkpoint.hash}"'.encode() in holding.read_bytes()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def _open(self, first: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._file(first), flags, 0o600)
        self._size = os.fstat(self._fd).st_size
        _sync_folder(self._folder)

    def _is_anothers(self) -> bool:
        """Say whether the newest checkpoint is of another key: the node has a new identity."""
        try:
            latest = read_latest(self._folder, self._trail)
        except ValueError:
            return False
        return latest is not None and latest.key_id != self._key.key_id

    def _file(self, first: int) -> Path:
        return self._folder / f"{self._trail}-{first:012d}.jsonl"

    def _resume(self, path: Path) -> int:
        """Go on behind the last whole row; returns how many bytes of a row that was cut off are gone."""
        first = _first(path)
        self._open(first)
        last, end = _last_row(self._fd, self._size)
        cut = self._size - end
        if cut:
            os.ftruncate(self._fd, end)
            self._size = end
        if last is not None:
            self.sequence, self.head = last.sequence, last.hash
            self.vouched = last.sequence if last.kind is AuditKind.CHECKPOINT else 0
        else:
            self._resume_before(path, first)
        return cut

    def _resume_before(self, path: Path, first: int) -> None:
        """Go on in a file without rows: a crash came between its making and its first row."""
        earlier = [each for each in list_files(self._folder, self._trail) if each < path]
        self.sequence = first - 1
        if earlier:
            with earlier[-1].open("rb") as file:
                last, _ = _last_row(file.fileno(), earlier[-1].stat().st_size)
            if last is not None:
                self.sequence, self.head = last.sequence, last.hash


def _last_row(fd: int, size: int) -> tuple[AuditRow | None, int]:
    """Return the last whole row of a file, and where it ends.

    Only an incomplete last line is passed over; the one before it counts even where it was altered, by what it says,
    so that the chain goes on and the fault stays to be found.
    """
    start = max(0, size - _BLOCK)
    data = os.pread(fd, size - start, start)
    end = data.rfind(b"\n") + 1
    if not end:
        return None, 0
    line = data[data.rfind(b"\n", 0, end - 1) + 1 : end - 1]
    try:
        return open_line(line), start + end
    except ValueError:
        return _as_it_says(line), start + end


def _as_it_says(line: bytes) -> AuditRow | None:
    try:
        return msgspec.json.decode(line, type=AuditRow)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _first(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def list_files(folder: Path, trail: AuditTrail) -> list[Path]:
    """Return the files of a trail in order."""
    return sorted(folder.glob(f"{trail}-[0-9]*.jsonl"))


def latest_path(folder: Path, trail: AuditTrail) -> Path:
    """Return where the newest checkpoint of a trail is kept."""
    return folder / f"{trail}.checkpoint.json"


def read_latest(folder: Path, trail: AuditTrail) -> Checkpoint | None:
    """Return the newest checkpoint as it is kept beside the files; raises `ValueError` for what is none."""
    try:
        return msgspec.json.decode(latest_path(folder, trail).read_bytes(), type=Checkpoint)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read ({error})") from error


def check_trail(
    folder: Path,
    trail: AuditTrail,
    *,
    until: int = -1,
    kept: Checkpoint | None = None,
    pause: Callable[[], None] = lambda: None,
) -> TrailCheck:
    """Check all files of a trail; `until` bytes of the newest where it is being written, `kept` from the database."""
    check = TrailCheck(trail, pause)
    name = latest_path(folder, trail).name
    try:
        latest = read_latest(folder, trail)
        check.expect(latest, name)
    except ValueError as error:
        latest = None
        check.fault(f"{name} {error}")
    if kept is not None:
        check.expect(kept, "the checkpoint in the database")
    files = list_files(folder, trail)
    for path in files:
        check.take_file(path.name, _lines(path, until if path == files[-1] else -1))
    if latest is None and check.checkpoints:
        check.fault(f"{name} is missing: the node keeps its newest checkpoint there")
    return check


def _lines(path: Path, until: int) -> Iterator[bytes]:
    left = until if until >= 0 else path.stat().st_size
    with path.open("rb") as file:
        while left > 0 and (line := file.readline(left)):
            left -= len(line)
            yield line


def newest_rows(folder: Path, trail: AuditTrail, number: int) -> list[AuditRow]:
    """Return the last rows of a trail, oldest first; what cannot be read is left out."""
    rows: list[AuditRow] = []
    for path in reversed(list_files(folder, trail)):
        found = []
        for line in path.read_bytes().splitlines()[-(number - len(rows)) :]:
            row = _as_it_says(line)
            if row is not None:
                found.append(row)
        rows = found + rows
        if len(rows) >= number:
            break
    return rows


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
