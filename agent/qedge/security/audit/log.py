"""The audit log of a node: written by a thread of its own, so that the event loop never waits for the disk.

Privileged acts are awaited (`keep`): whoever asked gets an answer once the row is on the disk, and `audit.unavailable`
where it cannot be written. What the node does by itself (`record`) is never dropped either, but nobody waits: a device
is contained also where the disk is full. Denials (`deny`) are gathered for a moment and written together.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.crypto.keys import SigningKey
from qedge.security.audit.files import TrailFiles, check_trail, newest_rows
from qedge.security.audit.pending import PendingDenials
from qedge.security.audit.row import START, facts_of, text
from qedge.security.config import AuditConfig
from qedge.security.model import Action, Decision, Resource, Subject
from qedge.wire.audit import AuditKind, AuditReport, AuditRow, AuditTrail, Checkpoint

T = TypeVar("T")
_LOG: Final = get_logger("security")
_MAX_WAITING: Final = 65_536
_RETRY_S: Final = 5.0
_MAX_ROWS: Final = 1000
_PAUSE_S: Final = 0.0005

_Waiting = tuple[AuditRow, "asyncio.Future[None] | None"]


class AuditLog:
    """Two trails in `folder`. `kept` are the checkpoints that the database has; `on_checkpoint` hears of new ones."""

    def __init__(
        self,
        folder: Path,
        config: AuditConfig,
        key: SigningKey,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.folder = folder
        self._config = config
        self._key = key
        self._clock = clock
        self._metrics = metrics
        self.on_checkpoint: Callable[[Checkpoint], None] = lambda _checkpoint: None
        self._thread: ThreadPoolExecutor | None = None
        self._trails: dict[AuditTrail, TrailFiles] = {}
        self._acts: list[_Waiting] = []
        self._denials = PendingDenials(config.queue)
        self._writing: set[asyncio.Task[None]] = set()
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._failing = False
        self._checked_ns = 0
        self.kept: dict[AuditTrail, Checkpoint] = {}

    async def open(self) -> None:
        """Open the files, again after `close` too; raises `audit.unavailable`."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "qedge-audit")
        try:
            await self._run(self._open)
        except OSError as error:
            raise self._unavailable(error) from error
        self._checked_ns = self._clock.now_ns()

    def deny(self, subject: Subject | None, action: Action, resource: Resource, decision: Decision) -> None:
        """Write down a denial soon; never waits."""
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        self._denials.add(subject, action, resource, decision, now_ns, utc_ns)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._config.commit_ms / 1000, self._due.set)

    def record(self, kind: AuditKind, **fields: object) -> None:
        """Write down what the node did by itself; never waits. `fields` are those of `AuditRow`, others are facts."""
        if len(self._acts) < _MAX_WAITING:
            self._acts.append((self._row(kind, fields), None))
        else:
            self._metrics.add("qedge_audit_lost_total", ("acts",))
        self._due.set()

    async def keep(self, **fields: object) -> None:
        """Write down a privileged act; returns once it is on the disk, raises `audit.unavailable`."""
        if len(self._acts) >= _MAX_WAITING:
            raise self._unavailable(None)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._acts.append((self._row(AuditKind.ACT, fields), written))
        self._due.set()
        await written

    async def run(self) -> None:
        """Write until cancelled; what waits then is written by `close`."""
        while True:
            try:
                async with asyncio.timeout(_RETRY_S):
                    await self._due.wait()
            except TimeoutError:
                pass  # time to look whether a checkpoint is due, or whether the disk has room again
            await self.flush()
            await self._tend()

    async def close(self) -> None:
        """Write what waits, vouch for it, and let go of the files."""
        await self.flush()
        with contextlib.suppress(OSError):
            self._heard(await self._run(self._vouch))
        await self._run(self._close)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown()

    async def verify(self) -> AuditReport:
        """Check all files in a thread of its own that gives way to the event loop again and again."""
        await self.flush()
        sizes = await self._run(lambda: {trail: files.size for trail, files in self._trails.items()})
        return await asyncio.to_thread(self._verify, sizes)

    async def rows(self, trail: AuditTrail, number: int) -> tuple[AuditRow, ...]:
        """Return the newest rows of a trail, oldest first."""
        await self.flush()
        return tuple(await asyncio.to_thread(newest_rows, self.folder, trail, min(number, _MAX_ROWS)))

    async def flush(self) -> None:
        """Write all that waits now, and wait for what is being written; to be cancelled takes nothing along."""
        writing = asyncio.create_task(self._write())
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.shield(asyncio.gather(*self._writing))

    async def _write(self) -> None:
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        acts, self._acts = self._acts, []
        utc_ns = self._clock.utc_ns()
        lost = self._denials.lost
        denials = self._denials.take(utc_ns)
        try:
            if acts:
                await self._append(AuditTrail.ACTS, [row for row, _ in acts], utc_ns)
                for _, written in acts:
                    if written is not None and not written.done():
                        written.set_result(None)
                acts = []
            if denials:
                await self._append(AuditTrail.DENIALS, denials, utc_ns)
                self._metrics.add("qedge_audit_lost_total", ("denials",), lost)
        except OSError as error:
            self._failed(error, acts, denials)

    def _row(self, kind: AuditKind, fields: Mapping[str, object]) -> AuditRow:
        subject, action, resource, decision, rule, actor = (text(str(fields.get(name, ""))) for name in _TEXTS)
        facts = facts_of({name: value for name, value in fields.items() if name not in _TEXTS})
        utc_ns = self._clock.utc_ns()
        return AuditRow(0, utc_ns, kind, START, subject, action, resource, decision, rule, actor, facts=facts)

    async def _append(self, trail: AuditTrail, rows: list[AuditRow], utc_ns: int) -> None:
        new = await self._run(self._append_there, trail, rows, utc_ns)
        self._failing = False
        self._metrics.add("qedge_audit_rows_total", (trail.value,), len(rows))
        self._heard(new)

    def _failed(self, error: OSError, acts: list[_Waiting], denials: list[AuditRow]) -> None:
        """Tell those who wait, keep what nobody waits for, and count what is lost."""
        if not self._failing:
            _LOG.error("audit.failed", error=str(error))
        self._failing = True
        for _, written in acts:
            if written is not None and not written.done():
                written.set_exception(self._unavailable(error))
        self._acts = [each for each in acts if each[1] is None] + self._acts
        self._denials.lost += sum(row.count for row in denials)

    async def _tend(self) -> None:
        """Vouch for what was written where that is due."""
        now_ns = self._clock.now_ns()
        if now_ns - self._checked_ns < self._config.checkpoint_s * 1e9:
            return
        self._checked_ns = now_ns
        try:
            self._heard(await self._run(self._vouch))
        except OSError as error:
            self._failed(error, [], [])

    def _heard(self, checkpoints: list[Checkpoint]) -> None:
        for checkpoint in checkpoints:
            self.kept[checkpoint.trail] = checkpoint
            self.on_checkpoint(checkpoint)

    def _unavailable(self, error: OSError | None) -> QedgeError:
        why = f": {error}" if error else ""
        return QedgeError(
            "audit.unavailable",
            f"The audit log cannot be written{why}; nothing is done that would have to stand in it.",
            fix=f"Look at the disk of {self.folder}.",
        )

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        if self._thread is None:  # what waits then is kept until it is open again, or told that it was not written
            raise OSError(errno.ESHUTDOWN, "it is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    # In the thread

    def _open(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for trail in AuditTrail:
            self._trails[trail] = TrailFiles(
                self.folder,
                trail,
                self._key,
                max_bytes=self._config.file_mib << 20,
                max_files=self._config.files,
                utc_ns=self._clock.utc_ns(),
            )
            kept = self.kept.get(trail)
            if kept is not None and not self._trails[trail].has(kept):
                what = f"row {kept.sequence}, which the node vouched for, is not there as it was"
                _LOG.error("audit.broken", trail=trail.value, what=what)
                row = AuditRow(0, self._clock.utc_ns(), AuditKind.BROKEN, START, facts={"what": what})
                self._trails[trail].append([row])

    def _append_there(self, trail: AuditTrail, rows: list[AuditRow], utc_ns: int) -> list[Checkpoint]:
        files = self._trails[trail]
        files.append(rows)
        # The rows are safe; where there is no room for a new file, the next write tries again.
        made = None
        with contextlib.suppress(OSError):
            made = files.turn(utc_ns)
        return [made] if made else []

    def _vouch(self) -> list[Checkpoint]:
        made = [files.checkpoint(self._clock.utc_ns()) for files in self._trails.values()]
        return [each for each in made if each is not None]

    def _close(self) -> None:
        for files in self._trails.values():
            files.close()

    def _verify(self, sizes: Mapping[AuditTrail, int]) -> AuditReport:
        return verify_folder(self.folder, self._key.key_id, sizes, self.kept, lambda: time.sleep(_PAUSE_S))


def verify_folder(
    folder: Path,
    key_id: str,
    sizes: Mapping[AuditTrail, int],
    kept: Mapping[AuditTrail, Checkpoint],
    pause: Callable[[], None] = lambda: None,
) -> AuditReport:
    """Check both trails of a folder; `key_id` is that of the node's key, empty where it is not known."""
    reports = []
    for trail in AuditTrail:
        check = check_trail(folder, trail, until=sizes.get(trail, -1), kept=kept.get(trail), pause=pause)
        reports.append(check.report(key_id))
    return AuditReport(not any(each.faults for each in reports), key_id, tuple(reports))


_TEXTS: Final = ("subject", "action", "resource", "decision", "rule", "actor")
