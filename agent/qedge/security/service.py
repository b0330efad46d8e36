"""Threats and what is done about them: trust, detection, incidents and the audit log of one node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from qedge import __version__
from qedge.base.clock import Clock
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.crypto.keys import SigningKey
from qedge.security.audit.log import AuditLog
from qedge.security.audit.starting import record_start
from qedge.security.config import SecurityConfig
from qedge.security.detection.detector import TICK_S, Detector
from qedge.security.detection.model import SLICES, Finding
from qedge.security.detection.tallies import TallyBook
from qedge.security.incidents.book import PEER, QUIET, REVIEW, IncidentBook
from qedge.security.incidents.model import Act, IncidentState, Outcome
from qedge.security.keeper import Keeper
from qedge.security.model import Action, Decision, Evidence, Resource, Subject
from qedge.security.ports import AddressGuard, Containment, Herald, Subjects
from qedge.security.responder import Responder
from qedge.security.tally import Tally
from qedge.security.trust.book import TrustBook
from qedge.security.trust.evidence import EVIDENCE
from qedge.store.store import Store
from qedge.wire.audit import AuditKind
from qedge.wire.incidents import IncidentBoard, IncidentView, SubjectIs

_LOG: Final = get_logger("security")
_SECOND: Final = round(1 / TICK_S)
_RETRIED: Final = 16
_LATE_S: Final = 1.0
_FOLLOWED: Final = 5
_MAX_ODD: Final = 10_000
_ODD: Final = 0.25
SELF: Final = "node"
"""The actor of what the node does by itself."""


class SecurityService:
    """`audit`, `tallies`, `trust` and `incidents` may be used from the event loop; nothing here waits for the disk.

    `folder` gets the audit log, `key` is the node's own and signs its checkpoints.
    """

    name = "security"

    def __init__(
        self,
        node: str,
        config: SecurityConfig,
        *,
        store: Store,
        folder: Path,
        key: SigningKey,
        subjects: Subjects,
        containment: Containment,
        guard: AddressGuard,
        herald: Herald,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self.node = node
        self.config = config
        self._clock = clock
        self._metrics = metrics
        self.subjects = subjects
        enforce = config.detection.mode == "enforce"
        self.tallies = TallyBook(config.detection.max_addresses)
        self.detector = Detector(config.detection, self.tallies, clock.now_ns())
        self.trust = TrustBook(config.trust, enforce=enforce)
        self.incidents = IncidentBook(node, config.incidents, random_bytes=random_bytes, changed=self._changed)
        self.responder = Responder(
            config.incidents, self.trust, enforce=enforce, subjects=subjects, containment=containment, guard=guard
        )
        self.audit = AuditLog(folder, config.audit, key, clock=clock, metrics=metrics)
        self.keeper = Keeper(node, config, store=store, herald=herald, clock=clock, parts=self)
        self.audit.on_checkpoint = self.keeper.take_checkpoint
        self._states: dict[str, str] = {}
        self._odd: dict[tuple[str, Evidence], int] = {}
        self._followed: tuple[Callable[[], dict[str, Tally]], Callable[[], Mapping[str, Tally]]] = (dict, dict)
        self._following = False
        self._ticks = 0
        herald.listen(self.heard, self.keeper.publish_again)

    # What others tell

    def device_tally(self, subject: Subject) -> Tally:
        """Return the tally of a device, to be incremented by whoever takes its messages."""
        return self.tallies.device(subject, self._clock.now_ns())

    def address_tally(self, address: str) -> Tally:
        """Return the tally of an address from which nobody has proven to be a device; ask at every attempt."""
        return self.tallies.address(address, self._clock.now_ns())

    def follow(self, devices: Callable[[], dict[str, Tally]], addresses: Callable[[], Mapping[str, Tally]]) -> None:
        """Watch tallies that the enforcement point and the ways in keep themselves, by device and by address."""
        self._followed = (devices, addresses)

    def denied(
        self, subject: Subject | None, action: Action, resource: Resource, decision: Decision, now_ns: int, utc_ns: int
    ) -> None:
        """Write a denial down, soon; the enforcement point counts it in the tally. Never waits."""
        self.audit.deny(subject, action, resource, decision)

    def odd(self, device_id: str, evidence: Evidence, now_ns: int, utc_ns: int) -> None:
        """Note something that only this device can have done, beside what tallies count. Never waits.

        It is judged with the next tick, however often it was said; malformed messages are judged by the tally alone.
        """
        if evidence is not Evidence.MALFORMED and len(self._odd) < _MAX_ODD:
            key = (device_id, evidence)
            self._odd[key] = self._odd.get(key, 0) + 1

    def observe(self, subject: Subject, evidence: Evidence, severity: float, now_ns: int, detail: str = "") -> None:
        """Take a piece of evidence of `severity` 0 … 1, with all that follows from it."""
        self._take(Finding(evidence, severity, detail, device=subject.id), now_ns)

    def admit(self, subject: Subject) -> None:
        """A device has come into the node's memory: give it the trust it had, and enforce what it is wanted for."""
        now_ns = self._clock.now_ns()
        self.trust.admit(subject)
        if subject.quarantined:
            self.trust.quarantine(subject, now_ns)
        else:
            for act in self.incidents.awaited(subject.id):
                self._act(act, now_ns)

    def forget(self, device_id: str) -> None:
        """A device is none any more."""
        self.trust.forget(device_id)
        self.tallies.forget(device_id)

    def heard(self, board: IncidentBoard) -> None:
        """Take the board of a peer: enforce its quarantines here, and end those that it ended."""
        if not self.keeper.is_newer(board.node, board.serial):
            return
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        for entry in board.entries:
            if entry.id in self.keeper.overruled:
                continue
            subject = self.subjects.find(entry.device)
            known = self.incidents.find(entry.id) is not None
            acts = self.incidents.report(board.node, entry, subject, now_ns, utc_ns)
            if subject is not None and not known and acts:
                self.trust.observe(subject, Evidence.REPORTED_BY_PEER, entry.severity, now_ns)
            for act in acts:
                self._act(act, now_ns)
        there = {entry.id for entry in board.entries}
        for view in self.incidents.of_peer(board.node):
            if view.id not in there:
                self.incidents.resolve(view.id, PEER, utc_ns)
                self.let_go(view.subject, PEER)

    # The loop

    async def run(self, ready: Ready) -> None:
        """Watch until cancelled."""
        await self.keeper.open()
        await record_start(self.audit, self.node, __version__, mode=self.config.detection.mode)
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.audit.run())
                group.create_task(self.keeper.run())
                group.create_task(self._watch())
        finally:
            self.audit.record(AuditKind.ACT, subject=self.node, action="stop", actor=SELF)
            await self.keeper.close()

    async def _watch(self) -> None:
        due_ns = self._clock.now_ns()
        for number in range(1 << 62):
            due_ns += round(TICK_S * 1e9)
            wait_s = (due_ns - self._clock.now_ns()) / 1e9
            if wait_s < -_LATE_S:
                due_ns = self._clock.now_ns()  # the box slept, or was held up: there is nothing to catch up with
            await asyncio.sleep(max(0.0, wait_s))
            self.tick(self._clock.now_ns())
            if number % _SECOND == 0:
                self.each_second(self._clock.now_ns())

    def tick(self, now_ns: int) -> None:
        """Look for threats, and review a part of the accounts; every `TICK_S`."""
        self._ticks += 1
        if self._ticks % _FOLLOWED == 0:
            devices, addresses = self._followed
            if (mine := devices()) or self._following:
                self._following = True
                self.tallies.follow(mine, self.subjects.find, now_ns)
            self.tallies.follow_addresses(addresses(), now_ns)
        odd, self._odd = self._odd, {}
        for (device_id, evidence), times in odd.items():
            detail = f"{times} times at once"
            self._take(Finding(evidence, min(1.0, _ODD * times), detail, device=device_id), now_ns)
        for finding in self.detector.tick(now_ns):
            self._take(finding, now_ns)
        for subject in self.trust.review(self.subjects.find, now_ns, len(self.trust) // SLICES + 1):
            if all(view.node == self.node for view in self.incidents.quarantined_by(subject.id)):
                self.end_quarantine(subject, REVIEW)

    def each_second(self, now_ns: int) -> None:
        """Do again what the cap held back, end what has been quiet for long, and say how things are."""
        for act in self.incidents.retry(_RETRIED):
            self._act(act, now_ns)
        for incident_id in self.incidents.quiet(now_ns, self._holds):
            self.resolve(incident_id, QUIET)
        self._metrics.set("qedge_incidents_open", len(self.incidents))
        self._metrics.set("qedge_devices_watched", len(self.tallies))
        self._metrics.set("qedge_devices_touched", self.responder.blast.touched(now_ns))

    # What follows

    def _take(self, finding: Finding, now_ns: int) -> None:
        utc_ns = self._clock.utc_ns()
        self._metrics.add("qedge_findings_total", (finding.evidence.value,))
        subject = self.subjects.find(finding.device) if finding.device else None
        score, quarantine = -1.0, False
        if subject is not None:
            score = self.trust.observe(subject, finding.evidence, finding.severity, now_ns).score
            quarantine = score < self.config.trust.quarantine_below and not subject.quarantined
        if EVIDENCE[finding.evidence].weight < 0:
            for act in self.incidents.take(finding, subject, score, quarantine, now_ns, utc_ns):
                self._act(act, now_ns)

    def _act(self, act: Act, now_ns: int) -> None:
        utc_ns = self._clock.utc_ns()
        try:
            outcome = self.responder.carry_out(act, now_ns)
        except Exception as error:  # noqa: BLE001 - a fault in a port must not end the watch over all others
            outcome = Outcome.FAILED
            _LOG.error(
                "security.response_failed", response=act.response.value, error=f"{type(error).__name__}: {error}"
            )
        before = self.incidents.find(act.incident)
        self.incidents.done(act, outcome, utc_ns)
        after = self.incidents.find(act.incident)
        if before is not None and after is not None and len(after.acts) == len(before.acts):
            return  # it was held back before, and still is
        self._metrics.add("qedge_responses_total", (act.response.value, outcome.value))
        _LOG.warning(
            "security.responded", device=act.subject, response=act.response.value, outcome=outcome.value, why=act.reason
        )
        self.audit.record(
            AuditKind.RESPONSE,
            subject=act.subject,
            action=act.response.value,
            decision=outcome.value,
            rule=act.reason,
            actor=SELF,
            incident=act.incident,
        )

    def resolve(self, incident_id: str, by: str, note: str = "") -> IncidentView | None:
        """End an incident and what was done only for its sake; a quarantine stays."""
        view = self.incidents.resolve(incident_id, by, self._clock.utc_ns(), note)
        if view is None:
            return None
        if view.subject_is is SubjectIs.ADDRESS:
            if by != QUIET:
                self.responder.unblock(view.subject)
        elif (subject := self.subjects.find(view.subject)) is not None:
            for act in view.acts:
                if act.outcome == Outcome.DONE:
                    self.responder.lift(subject, act.response)
        return view

    def end_quarantine(self, subject: Subject, by: str, note: str = "") -> None:
        """Release a device, and resolve all incidents for whose sake it was quarantined."""
        for view in self.incidents.quarantined_by(subject.id):
            self.resolve(view.id, by, note)
        self.responder.release(subject, self._clock.now_ns())
        _LOG.warning("security.released", device=subject.id, by=by)
        self.audit.record(
            AuditKind.RESPONSE, subject=subject.id, action="release", decision="done", rule=by, actor=SELF
        )

    def let_go(self, device_id: str, by: str) -> None:
        """Release a device unless another incident still wants it quarantined."""
        subject = self.subjects.find(device_id)
        if subject is not None and subject.quarantined and not self.incidents.quarantined_by(device_id):
            self.end_quarantine(subject, by)

    def _holds(self, view: IncidentView) -> bool:
        subject = self.subjects.find(view.subject)
        return subject is not None and subject.quarantined

    def _changed(self, view: IncidentView) -> None:
        self.keeper.take(view)
        if self._states.get(view.id) == view.state:
            return
        self._states[view.id] = view.state
        if view.state == IncidentState.RESOLVED:
            del self._states[view.id]
        elif view.state == IncidentState.OPENED and not view.acts:
            self._metrics.add("qedge_incidents_total", (view.evidence,))
        _LOG.warning(
            "security.incident", incident=view.id, state=view.state, device=view.subject, evidence=view.evidence
        )
        self.audit.record(
            AuditKind.INCIDENT,
            subject=view.subject,
            action=view.evidence,
            decision=view.state,
            rule=view.ended_by,
            actor=SELF,
            incident=view.id,
            node=view.node,
        )
