"""Checking a trail: every hash, sequence number and signature, and nothing cut off behind a checkpoint. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from qedge.security.audit.row import START, check_signature, open_line
from qedge.wire.audit import AuditKind, AuditRow, AuditTrail, Checkpoint, TrailReport

MAX_FAULTS: Final = 100
_EVERY: Final = 200


class TrailCheck:
    """Takes the lines of a trail in order. What it finds wrong is said once, and reading goes on behind it."""

    def __init__(self, trail: AuditTrail, pause: Callable[[], None] = lambda: None) -> None:
        self._trail = trail
        self._pause = pause
        self._faults: list[str] = []
        self._key_ids: list[str] = []
        self._expected: dict[int, tuple[str, str]] = {}
        self._previous: AuditRow | None = None
        self._newest: Checkpoint | None = None
        self.files = self.rows = self.first = self.checkpoints = self.proven = 0

    def take_file(self, name: str, lines: Iterable[bytes]) -> None:
        """Check the next file."""
        self.files += 1
        for number, line in enumerate(lines, 1):
            if number % _EVERY == 0:
                self._pause()
            where = f"{name}:{number}"
            if not line.endswith(b"\n"):
                self.fault(f"{where} is cut off")
                continue
            try:
                row = open_line(line[:-1])
            except ValueError as error:
                self.fault(f"{where} {error}")
                continue
            self._take_row(where, row, begins=number == 1)

    def expect(self, checkpoint: Checkpoint | None, what: str) -> None:
        """Take a checkpoint that is kept apart from the files, before any of them: they have to have its row."""
        if checkpoint is not None and self._is_sound(what, checkpoint):
            self._expected[checkpoint.sequence] = (checkpoint.hash, what)

    def report(self, key_id: str = "") -> TrailReport:
        """Return what was found; `key_id` is the node's present key, empty where it is not known."""
        if key_id and self._newest is not None and self._newest.key_id != key_id:
            self.fault(f"the newest checkpoint is signed by key {self._newest.key_id}, which is not the node's")
        last = self._previous
        head = last.hash if last else START
        until = last.sequence if last else 0
        for sequence, (_, what) in self._expected.items():
            if sequence > until:
                self.fault(f"rows {until + 1} to {sequence} are missing at the end: {what} vouches for them")
        return TrailReport(
            self._trail,
            self.files,
            self.rows,
            self.first,
            last.sequence if last else 0,
            head,
            self.checkpoints,
            self.proven,
            tuple(self._key_ids),
            tuple(self._faults),
        )

    def _take_row(self, where: str, row: AuditRow, *, begins: bool) -> None:
        before = self._previous
        if before is None:
            self.first = row.sequence
            if row.sequence == 1 and row.previous != START:
                self.fault(f"{where} is the first row and does not begin the chain")
            elif row.sequence != 1 and not (begins and row.kind is AuditKind.CHECKPOINT):
                self.fault(f"{where} begins the files, and no checkpoint vouches for what was before it")
        elif row.previous != before.hash or row.sequence != before.sequence + 1:
            self.fault(f"{where} does not follow row {before.sequence}: rows were removed, added or moved")
        if row.kind is AuditKind.BROKEN:
            self.fault(f"{where} says that rows were missing when the node started: {row.facts.get('what', '')}")
        if row.kind is AuditKind.CHECKPOINT:
            self._take_checkpoint(where, row)
        digest, what = self._expected.get(row.sequence, (row.hash, ""))
        if digest != row.hash:
            self.fault(f"{where} is another row than {what} vouches for")
        elif what:
            self.proven = max(self.proven, row.sequence)
        self._previous = row
        self.rows += 1

    def _take_checkpoint(self, where: str, row: AuditRow) -> None:
        checkpoint = row.checkpoint
        if checkpoint is None or checkpoint.sequence != row.sequence - 1 or checkpoint.hash != row.previous:
            self.fault(f"{where} vouches for another row than the one before it")
            return
        if self._is_sound(where, checkpoint):
            self.checkpoints += 1
            self.proven = checkpoint.sequence

    def _is_sound(self, what: str, checkpoint: Checkpoint) -> bool:
        try:
            if checkpoint.trail is not self._trail:
                raise ValueError("is of another trail")
            check_signature(checkpoint)
        except ValueError as error:
            self.fault(f"{what} {error}")
            return False
        if checkpoint.key_id not in self._key_ids:
            self._key_ids.append(checkpoint.key_id)
        if self._newest is None or checkpoint.sequence >= self._newest.sequence:
            self._newest = checkpoint
        return True

    def fault(self, text: str) -> None:
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(text)
