"""Carrying out: told before it begins, in time, written down when it ended, and cancelled in whatever it is doing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.fleet.commands.journal import Journal
from qedge.fleet.commands.lanes import Lanes
from qedge.fleet.commands.model import ENDS, Entry, Phase
from qedge.fleet.commands.ports import AfterCrash, Auditor, Executor
from qedge.fleet.commands.rules import check_keys, time_limit_s
from qedge.fleet.commands.telling import Teller
from qedge.wire.commands import CommandRequest

T = TypeVar("T")
_LOG: Final = get_logger("fleet")
_RETRY_S: Final = 2.0
_HEED_S: Final = 5.0
"""Time in which what is cancelled has to be gone; then it is left alone, so that its lane is free."""

_LEAST_S: Final = 5.0
"""Least time for a command that a crash interrupted, however long the node was away."""

MAX_RESULT_BYTES: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class ThisRun:
    """Which start of the box and of the daemon this is."""

    boot_id: str
    epoch: int


class _Stop:
    """How one command under way is stopped."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.over = asyncio.Event()
        self.by = ""


class Runner:
    """Runs what waits, one command a lane. What it does not write down is found by the next start."""

    def __init__(
        self,
        executors: Mapping[str, Executor],
        journal: Journal,
        teller: Teller,
        lanes: Lanes,
        auditor: Auditor,
        this_run: ThisRun,
        *,
        clock: Clock,
        metrics: Metrics,
        is_revoked: Callable[[str], bool],
    ) -> None:
        """`is_revoked` says of the id of a key whether it counts no more."""
        self._executors = executors
        self._journal = journal
        self._teller = teller
        self._lanes = lanes
        self.auditor = auditor
        self._this_run = this_run
        self._clock = clock
        self._metrics = metrics
        self._is_revoked = is_revoked
        self._wake = asyncio.Event()
        self._under_way: dict[str, _Stop] = {}

    def enqueue(self, entry: Entry) -> None:
        """Let a command wait its turn."""
        self._lanes.push(entry.lane, entry.id)
        self._wake.set()

    async def cancel(self, command: str, by: str) -> None:
        """End a command that has not ended, and see that it has; raises `order.not_found`, `order.ended`."""
        while True:
            stop = self._under_way.get(command)
            if stop is not None:
                stop.by = by
                stop.asked.set()
                await stop.over.wait()
            entry = await self._journal.get(command)
            if entry is None:
                raise QedgeError(
                    "order.not_found",
                    "The node knows no command of this id.",
                    fix="`qedge commands list` on the node shows what it knows.",
                )
            if entry.ended and stop is not None and entry.code == "order.cancelled":
                return
            if entry.ended:
                raise QedgeError("order.ended", f"The command has ended: {entry.phase}.")
            if command in self._under_way:
                continue  # its turn came meanwhile
            self._lanes.drop(command)
            if await self.end(entry, QedgeError("order.cancelled", _cancelled_by(by))):
                return

    async def run(self) -> None:
        """Carry out until cancelled."""
        self._under_way.clear()  # what an earlier run of the service could not begin
        async with asyncio.TaskGroup() as group:
            while True:
                for command in self._lanes.due():
                    self._under_way[command] = _Stop()
                    group.create_task(self._guarded(command))
                self._metrics.set("qedge_orders_waiting", self._lanes.waiting)
                self._metrics.set("qedge_orders_running", self._lanes.running)
                await self._wake.wait()
                self._wake.clear()

    async def end(self, entry: Entry, error: QedgeError | None = None, result: bytes = b"") -> bool:
        """Write down how a command ended and tell it; waits for room on the disk. False: it is elsewhere by now.

        The audit log comes first: after a crash between the two it has an end that comes again, and never lacks one.
        What the journal has counts, not `entry`: a step that was cut off while it was noted may stand there.
        """
        ended, audited = entry, False
        while True:
            known = await self._journal.get(entry.id)
            if known is None or known.phase is not entry.phase or known.ended:
                return False
            ended = replace(
                known,
                phase=Phase.FAILED if error else Phase.SUCCESSFUL,
                revision=known.revision + 1,
                ended_utc_ns=self._clock.utc_ns(),
                code=error.code if error else "",
                reason=str(error)[:200] if error else "",
                progress=known.progress if error else 1.0,
                result=result,
            )
            if not audited:
                await self._audit_end(ended)
                audited = True
            if await self._write_end(ended):
                break
        self._teller.tell(entry.id)
        phase = str(ended.phase)
        self._metrics.add("qedge_orders_total", (self.label(entry.kind), phase))
        _LOG.info(
            "order.ended",
            phase=phase,
            code=ended.code,
            command=entry.id,
            kind=entry.kind,
            operator=entry.operator,
        )
        return True

    async def _audit_end(self, ended: Entry) -> None:
        why, decision = ended.code or "carried out", str(ended.phase)
        try:
            await self.auditor.keep(
                command=ended.id, kind=ended.kind, operator=ended.operator, decision=decision, why=why
            )
        except QedgeError as failure:
            _LOG.error("audit.failed", error=str(failure))

    def label(self, kind: str) -> str:
        """Return a kind as a label of metrics; senders choose kinds, so that others are one."""
        return kind if kind in self._executors else "unknown"

    async def _write_end(self, ended: Entry) -> bool:
        while True:
            try:
                await self._journal.change(ended)
            except QedgeError as error:
                if not error.code.startswith("store."):
                    return False
                await asyncio.sleep(_RETRY_S)
            else:
                return True

    async def _guarded(self, command: str) -> None:
        stop = self._under_way[command]
        try:
            await self._carry_out(command, stop)
        finally:
            self._under_way.pop(command, None)
            stop.over.set()
            self._lanes.remove(command)
            self._wake.set()

    async def _carry_out(self, command: str, stop: _Stop) -> None:
        """Lead a command from where it is to its end."""
        entry = await self._journal.get(command)
        if entry is None or entry.phase in ENDS:
            return
        course = _Course(self, entry, stop)
        try:
            result = await course.run()
        except QedgeError as error:
            await self.end(course.entry, error)
        except Exception as error:  # noqa: BLE001 - a fault of one executor must not end the others
            _LOG.error(
                "service.failed", service="commands", error=f"{type(error).__name__}: {error}", code="", delay_s=0
            )
            await self.end(
                course.entry,
                QedgeError(
                    "internal.unexpected",
                    f"{type(error).__name__}: {error}.",
                    fix="Report it, with `qedge diag collect`.",
                ),
            )
        else:
            await self.end(course.entry, None, result)

    # what a course needs of the runner
    def executor(self, kind: str) -> Executor:
        """Return who carries out a kind; raises `order.unknown_kind`."""
        executor = self._executors.get(kind)
        if executor is None:
            raise QedgeError(
                "order.unknown_kind",
                f"This version of the node knows no {kind}.",
                fix="`qedge fleet inventory --json` tells what each node can.",
            )
        return executor

    async def write(self, entry: Entry) -> Entry:
        """Write down where a command is."""
        await self._journal.change(entry)
        return entry

    async def announce(self, entry: Entry) -> None:
        """Tell where it is, and wait until the broker knows."""
        await self._teller.announce(entry)

    def tell(self, entry: Entry) -> None:
        """Tell where it is soon."""
        self._teller.tell(entry.id)

    def begun(self, entry: Entry) -> Entry:
        """Return a command as it is begun now, first or anew."""
        utc_ns = self._clock.utc_ns()
        return replace(
            entry,
            phase=Phase.STARTING,
            revision=entry.revision + 1,
            step="",
            began_utc_ns=entry.began_utc_ns or utc_ns,
            boot_id=self._this_run.boot_id,
            epoch=self._this_run.epoch,
        )

    def check_may_begin(self, entry: Entry) -> None:
        """Raise `order.expired` or `auth.revoked` where what has done nothing yet may not begin any more."""
        if self._clock.utc_ns() >= entry.expires_utc_ns:
            raise QedgeError("order.expired", "Its turn came after its expiry.", fix="Send it again.")
        check_keys(entry.key_id, entry.approver_keys, self._is_revoked)

    def left_s(self, entry: Entry, limit_s: float) -> float:
        """Return how much of its time a command has left."""
        if not entry.began_utc_ns:
            return limit_s
        return max(_LEAST_S, min(limit_s, limit_s - (self._clock.utc_ns() - entry.began_utc_ns) / 1e9))


class _Course:
    """One command on its way."""

    def __init__(self, runner: Runner, entry: Entry, stop: _Stop) -> None:
        self._runner = runner
        self._stop = stop
        self.entry = entry

    async def run(self) -> bytes:
        """Do it; returns the encoded result, raises what it failed with."""
        executor = self._runner.executor(self.entry.kind)
        request = msgspec.msgpack.decode(self.entry.request, type=CommandRequest)
        limit_s = self._runner.left_s(self.entry, time_limit_s(request, executor))
        fresh = self.entry.phase is not Phase.RUNNING
        if fresh:
            self._runner.check_may_begin(self.entry)
        else:
            if executor.after_crash is AfterCrash.FAIL:
                raise QedgeError("order.interrupted", "Interrupted by a restart of the node.", fix="Send it again.")
            if executor.after_crash is AfterCrash.CHECK:
                found = await self._bounded(executor.recover(request), limit_s)
                if not found.go_on:
                    return _encode(found.result)
        self.entry = await self._runner.write(self._runner.begun(self.entry))
        try:
            await self._bounded(self._runner.announce(self.entry), limit_s)
        except QedgeError as error:
            if error.code != "order.timeout":
                raise
            raise QedgeError(
                "order.not_announced",
                "The broker did not take the word that it begins.",
                fix="Look at the broker, then send it again.",
            ) from error
        if fresh:
            self._runner.check_may_begin(self.entry)  # that may have taken long
        self.entry = await self._runner.write(
            replace(self.entry, phase=Phase.RUNNING, revision=self.entry.revision + 1)
        )
        return _encode(await self._bounded(executor.run(request, self._progress), limit_s))

    async def _progress(self, step: str, done: float) -> None:
        entry = replace(self.entry, revision=self.entry.revision + 1, step=step, progress=done)
        self.entry = await self._runner.write(entry)
        self._runner.tell(entry)

    async def _bounded(self, work: Awaitable[T], limit_s: float) -> T:
        """Wait for `work` until its time is over or somebody cancels it; what does not heed that is abandoned.

        What was cancelled before does not begin.
        """
        if self._stop.asked.is_set():
            if asyncio.iscoroutine(work):
                work.close()
            raise QedgeError("order.cancelled", _cancelled_by(self._stop.by))
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stop.asked.wait())
        try:
            done, _ = await asyncio.wait({task, stopped}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if task in done:
                if task.cancelled():
                    raise QedgeError("order.failed", "It ended itself.", fix="Look at the log of the node.")
                return task.result()
            task.cancel()
            if not (await asyncio.wait({task}, timeout=_HEED_S))[0]:
                _LOG.error("order.abandoned", command=self.entry.id, kind=self.entry.kind)
            elif not task.cancelled() and task.exception() is None:
                return task.result()  # it was done before it could heed that
            if self._stop.asked.is_set():
                raise QedgeError("order.cancelled", _cancelled_by(self._stop.by))
            raise QedgeError(
                "order.timeout",
                f"It was not done within {limit_s:g} s.",
                fix="Look at the node, or give it longer with --limit.",
            )
        finally:
            stopped.cancel()
            task.cancel()
            if task.done() and not task.cancelled():
                task.exception()  # looked at, so that nothing complains later


def _encode(result: msgspec.Struct | None) -> bytes:
    encoded = b"" if result is None else msgspec.msgpack.encode(result)
    if len(encoded) > MAX_RESULT_BYTES:
        raise QedgeError(
            "order.failed", f"The result of {len(encoded)} bytes is too large to be told.", fix="Ask for less."
        )
    return encoded


def _cancelled_by(who: str) -> str:
    return f"Cancelled by {who}." if who else "Cancelled."
