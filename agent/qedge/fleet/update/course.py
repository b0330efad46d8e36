"""The course of an update: what follows each step, written down so that it goes on after a kill at any instant.

Every piece of work may be done twice. The journal is written after it; whoever finds a journal goes on from its step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.fleet.update.bundle import open_bundle, unpack, verify_bundle
from qedge.fleet.update.disk import BUNDLE, NO_VERSION, Disk
from qedge.fleet.update.model import (
    CALM_S,
    GATE_S,
    MAX_ENDS,
    MAX_STARTS,
    SLOTS,
    STEPS,
    EndedUpdate,
    Event,
    Journal,
    ServiceView,
    Step,
)
from qedge.fleet.update.ports import Machine, Verify
from qedge.fleet.update.versions import require_fit
from qedge.wire.update import Outcome, UpdateReport, UpdateRequest

_LOOK_S: Final = 0.25
_OUTCOMES: Final = {
    Step.KEPT: Outcome.KEPT,
    Step.ROLLED_BACK: Outcome.ROLLED_BACK,
    Step.REFUSED: Outcome.REFUSED,
}
_HARMLESS: Final = (Step.REQUESTED, Step.TAKEN, Step.BUILT)
"""Steps after which the service runs on, whatever happens."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Course:
    """One run of the updater; `say` tells people."""

    disk: Disk
    machine: Machine
    verify: Verify
    say: Say

    def run(self) -> UpdateReport | None:
        """Go on with the update under way, or begin the one that was asked for; None: there is nothing to do.

        Raises `OSError` where the disk fails, and what the service manager's refusal raises while the old version is
        brought back; then it goes on at the next start.
        """
        self.disk.prepare()
        journal = self.disk.read_journal()
        journal = self._begin_requested() if journal is None else self._count_start(journal)
        return None if journal is None else self.finish(journal)

    def _begin_requested(self) -> Journal | None:
        request = None
        try:
            request = self.disk.read_request()
            report = self.disk.read_report()
            if request is None:
                return None
            if report is not None and report.id == request.id:
                self.disk.drop_request()  # done already: it came back, or did not go away
                return None
            return self._begin(request)
        except QedgeError as error:
            # A request that leads nowhere is removed: while it is there, the updater is started again and again.
            self.say(str(error))
            if request is not None:
                report = self._refusal(request.id, error)
                self.disk.note_end(EndedUpdate(report))
                self.disk.write_report(report)
            self.disk.drop_request()
            return None

    def _begin(self, request: UpdateRequest) -> Journal:
        old = self.disk.current_slot()
        previous = self.disk.version_of(old)
        return self._write(Journal(request.id, request.bundle, request.sha256, old, other(old), previous=previous))

    def _refusal(self, order: str, error: QedgeError) -> UpdateReport:
        return UpdateReport(order, Outcome.REFUSED, "", "", self.machine.utc_ns(), error.code, error.message[:200])

    def run_local(self, order: str, bundle: BinaryIO | None) -> UpdateReport:
        """Do what root orders on the box: put a bundle onto it, or go back to the version in the other slot (None).

        Raises as `begin_local`, and `update.bad_bundle`; that it was refused is remembered for the audit log.
        """
        back = bundle is None
        try:
            if bundle is not None:
                self.disk.take_from(bundle, "")
            journal = self.begin_local(order, back=back)
        except QedgeError as error:
            self.disk.note_end(EndedUpdate(self._refusal(order, error), local=True, back=back))
            raise
        return self.finish(journal)

    def begin_local(self, order: str, *, back: bool = False) -> Journal:
        """Write down what root orders on the box: the bundle that was taken, or the version in the other slot.

        Raises `update.no_slots`, and `update.not_for_here` where there is no other version.
        """
        old = self.disk.current_slot()
        new, previous = other(old), self.disk.version_of(old)
        version = self.disk.version_of(new) if back else ""
        if version == NO_VERSION:
            raise QedgeError(
                "update.not_for_here", "There is no version before this one here.", fix="Install a bundle of it."
            )
        step = Step.TRIED if back else Step.REQUESTED
        return self._write(Journal(order, BUNDLE, "", old, new, step, version, previous, local=True, back=back))

    def finish(self, journal: Journal) -> UpdateReport:
        """Do everything that is left, and report."""
        while journal.step not in STEPS.final:
            self.say(f"{journal.step}: {journal.version or journal.bundle}")
            journal = self._advance(journal)
        self.say(f"{journal.step}: {journal.version} {journal.reason}".rstrip())
        return self._end(journal)

    def _count_start(self, journal: Journal) -> Journal:
        self.say(f"going on after {journal.step}")
        if journal.step in STEPS.final or journal.step is Step.REVERTING:
            return journal
        journal = msgspec.structs.replace(journal, starts=journal.starts + 1)
        if journal.starts >= MAX_STARTS:
            reason = f"The box or the updater went down {journal.starts} times during the update."
            return self._fail(journal, "update.interrupted", reason)
        return self._write(journal)

    def _advance(self, journal: Journal) -> Journal:
        work = {
            Step.REQUESTED: self._take,
            Step.TAKEN: self._build,
            Step.BUILT: self._try,
            Step.TRIED: self._switch,
            Step.SWITCHED: self._prove,
            Step.REVERTING: self._revert,
        }[journal.step]
        try:
            journal = work(journal)
        except QedgeError as error:
            if journal.step is Step.REVERTING:
                raise
            # The work may have written down more before it failed.
            return self._fail(self.disk.read_journal() or journal, error.code, error.message)
        except OSError as error:
            if journal.step not in _HARMLESS:
                raise
            return self._fail(journal, "update.not_built", f"{error.strerror or error}: {error.filename or ''}")
        return self._write(msgspec.structs.replace(journal, step=STEPS.next(journal.step, Event.DONE)))

    def _fail(self, journal: Journal, code: str, reason: str) -> Journal:
        step = STEPS.next(journal.step, Event.FAILED)
        return self._write(msgspec.structs.replace(journal, step=step, code=code, reason=reason[:200]))

    def _write(self, journal: Journal) -> Journal:
        self.disk.write_journal(journal)
        return journal

    def _take(self, journal: Journal) -> Journal:
        if not journal.local:
            self.disk.take(journal.bundle, journal.sha256)
        with self.disk.taken().open("rb") as file:
            opened = open_bundle(file)
            verify_bundle(opened, self.disk.release_keys(), self.verify)
            require_fit(
                opened.manifest,
                current=journal.previous,
                python=self.machine.python(),
                platform=self.machine.platform(),
            )
            unpack(opened, self.disk.fresh_wheels())
        return msgspec.structs.replace(journal, version=opened.manifest.version)

    def _build(self, journal: Journal) -> Journal:
        self.machine.build(self.disk.layout.slot(journal.new), self.disk.wheels(), journal.version)
        return journal

    def _try(self, journal: Journal) -> Journal:
        self.machine.try_out(self.disk.layout.slot(journal.new), journal.version)
        return journal

    def _switch(self, journal: Journal) -> Journal:
        if self.disk.current_slot() != journal.new:
            # Stopped before the copy, so that the copy lacks nothing that was accepted; and never copied again once
            # the new version may have run.
            self.machine.stop()
            self.machine.keep_databases(self.disk.layout.slot(journal.old))
            self.disk.point(self.disk.layout.current, journal.new)
        self.machine.start()
        return journal

    def _prove(self, journal: Journal) -> Journal:
        begun_s = self.machine.now_s()
        fault = self._gate(journal.new)
        gate_s = round(self.machine.now_s() - begun_s, 2)
        journal = msgspec.structs.replace(journal, gate_s=gate_s, down_s=gate_s)
        self._write(journal)
        if fault:
            raise QedgeError("update.rolled_back", fault, fix="See `journalctl -u qedge` of that time.")
        return journal

    def _gate(self, slot: str) -> str:
        """Wait until the program of a slot is well and has been for a while; returns what is wrong, or nothing."""
        folder = f"{self.disk.layout.slot(slot)}/"
        end_s = self.machine.now_s() + GATE_S
        first_ends, well_pid, well_since_s = -1, 0, 0.0
        while (now_s := self.machine.now_s()) < end_s:
            seen = self.machine.look()
            first_ends = seen.ends if first_ends < 0 else min(first_ends, seen.ends)
            if seen.failed:
                return "The new version failed, and the service manager has given it up."
            if seen.ends - first_ends >= MAX_ENDS:
                return f"The new version ended by itself {seen.ends - first_ends} times."
            if not self._is_well(seen, folder):
                well_pid = 0
            elif seen.pid != well_pid:
                well_pid, well_since_s = seen.pid, now_s
            elif now_s - well_since_s >= CALM_S:
                return ""
            self.machine.rest(_LOOK_S)
        return f"The new version was not ready within {GATE_S:.0f} s."

    def _is_well(self, seen: ServiceView, folder: str) -> bool:
        return seen.active and seen.program.startswith(folder) and self.machine.ready()

    def _revert(self, journal: Journal) -> Journal:
        begun_s = self.machine.now_s()
        databases, remarks = journal.databases, []
        self.machine.stop(kill=True)
        if self.disk.current_slot() == journal.new:
            # Only now can there be a copy of this update. The old version refuses a database that a newer one changed.
            try:
                databases = self.machine.restore_databases(self.disk.layout.slot(journal.old)) or databases
            except QedgeError as error:
                remarks.append(error.message)
            self.disk.point(self.disk.layout.current, journal.old)
        self.machine.start()
        if self._gate(journal.old):
            remarks.append("The old version is not well either.")
        down_s = round(journal.gate_s + self.machine.now_s() - begun_s, 2)
        reason = " ".join([journal.reason, *remarks])[:200]
        return msgspec.structs.replace(journal, databases=databases, reason=reason, down_s=down_s)

    def _end(self, journal: Journal) -> UpdateReport:
        if journal.step is Step.KEPT:
            self.disk.point(self.disk.layout.kept, journal.new)
        report = UpdateReport(
            journal.id,
            _OUTCOMES[journal.step],
            journal.version,
            journal.previous,
            self.machine.utc_ns(),
            journal.code,
            journal.reason,
            journal.gate_s,
            journal.down_s,
            journal.databases,
        )
        self.disk.note_end(EndedUpdate(report, journal.local, journal.back))
        self.disk.write_report(report)
        self.disk.drop_request()
        self.disk.clear()
        if journal.step is not Step.KEPT and journal.version and not journal.back:
            self.disk.empty(journal.new)  # nobody shall go back to what did not work
        self.disk.drop_journal()
        return report


def other(slot: str) -> str:
    """Return the slot beside `slot`."""
    return next(name for name in SLOTS if name != slot)
