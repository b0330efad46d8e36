"""What operators see of threats and do about them: the port of the HTTP interface, filled from the service."""

from __future__ import annotations

from functools import partial
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import is_name
from qedge.security import ledger
from qedge.security.audit.log import AuditLog
from qedge.security.incidents.model import Outcome
from qedge.security.model import Subject
from qedge.security.service import SecurityService
from qedge.security.trust.book import name_of
from qedge.store.store import Store
from qedge.wire.audit import AuditReport, AuditRows, AuditTrail
from qedge.wire.incidents import DeviceStory, IncidentChange, IncidentList, IncidentView, SubjectIs, TrustRow

MAX_LISTED: Final = 1000
_STORY_INCIDENTS: Final = 10


class SecurityDesk:
    """Every privileged act is in the audit log before it is done; `actor` is who asks."""

    def __init__(self, service: SecurityService, store: Store, clock: Clock) -> None:
        self._service = service
        self._store = store
        self._clock = clock

    @property
    def audit(self) -> AuditLog:
        """The log itself, for acts of other rooms."""
        return self._service.audit

    async def incidents(self, limit: int, *, only_open: bool) -> IncidentList:
        """Return the newest incidents; those that are open as they are at this moment."""
        book = self._service.incidents
        views = {view.id: view for view in book.views()}
        if not only_open:
            kept = await self._store.read(partial(ledger.read_newest, limit=min(limit, MAX_LISTED)))
            views = {view.id: view for view in kept} | self._service.keeper.waiting | views
        newest = sorted(views.values(), key=lambda view: (view.opened_utc_ns, view.id), reverse=True)
        return IncidentList(tuple(newest[:limit]), len(book), self._service.config.detection.mode)

    async def incident(self, incident_id: str) -> IncidentView:
        """Return one incident; raises `incident.not_found`."""
        view = self._service.incidents.find(incident_id) or self._service.keeper.waiting.get(incident_id)
        view = view or await self._store.read(partial(ledger.read_one, incident_id=incident_id))
        if view is None:
            raise QedgeError(
                "incident.not_found", f"No incident {incident_id} is known here.", fix="`qedge incident list --all`."
            )
        return view

    async def acknowledge(self, incident_id: str, change: IncidentChange, actor: str) -> IncidentView:
        """Say that an operator has seen it; raises `incident.*`, `audit.unavailable`."""
        view = await self._opened(incident_id)
        await self._service.audit.keep(
            subject=view.subject, action="acknowledge", actor=actor, rule=change.note, incident=view.id
        )
        done = self._service.incidents.acknowledge(view.id, actor, change.note, self._clock.utc_ns())
        await self._service.keeper.save()
        return done or await self.incident(view.id)

    async def resolve(self, incident_id: str, change: IncidentChange, actor: str) -> IncidentView:
        """End an incident, and with `release` the device's quarantine; raises `incident.*`, `audit.unavailable`."""
        view = await self._opened(incident_id)
        action = "resolve and release" if change.release else "resolve"
        await self._service.audit.keep(
            subject=view.subject, action=action, actor=actor, rule=change.note, incident=view.id
        )
        if change.release and view.subject_is is SubjectIs.DEVICE:
            subject = self._device(view.subject)
            self._service.end_quarantine(subject, actor, change.note)
        done = self._service.resolve(view.id, actor, change.note)
        await self._service.keeper.save()
        return done or await self.incident(view.id)

    async def quarantine(self, device_id: str, reason: str, actor: str) -> None:
        """Quarantine a device, here and at all peers; raises `incident.no_device`, `audit.unavailable`."""
        subject = self._device(device_id)
        await self._service.audit.keep(subject=device_id, action="quarantine", actor=actor, rule=reason)
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        act = self._service.incidents.by_operator(device_id, subject, reason, now_ns, utc_ns)
        self._service.responder.quarantine(subject, reason, now_ns)
        self._service.incidents.done(act, Outcome.DONE, utc_ns, actor)
        await self._service.keeper.save()

    async def release(self, device_id: str, note: str, actor: str) -> None:
        """Lift a quarantine; raises `incident.no_device`, `audit.unavailable`."""
        subject = self._device(device_id)
        await self._service.audit.keep(subject=device_id, action="release", actor=actor, rule=note)
        self._service.end_quarantine(subject, actor, note)
        # one that is still open after a crash would quarantine the device again
        await self._service.keeper.save()

    async def device_story(self, device_id: str) -> DeviceStory:
        """Tell how a device came to its trust; raises `incident.no_device`."""
        subject = self._device(device_id)
        trust = self._service.trust
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        rows = tuple(
            TrustRow(
                max(0, utc_ns - (now_ns - row.at_ns)),
                name_of(row.kind),
                round(row.points, 3),
                row.times,
                row.before,
                row.after,
            )
            for row in trust.why(device_id)
        )
        incidents = await self._store.read(partial(ledger.read_about, subject=device_id, limit=_STORY_INCIDENTS))
        now = {view.id: view for view in self._service.incidents.views() if view.subject == device_id}
        kept = {view.id: view for view in incidents} | now
        return DeviceStory(
            device_id,
            subject.trust,
            round(trust.score(device_id, now_ns), 3),
            subject.quarantined,
            subject.safety,
            trust.demanded(device_id, now_ns),
            rows,
            tuple(sorted(kept.values(), key=lambda view: view.opened_utc_ns, reverse=True)),
        )

    async def audit_rows(self, trail: AuditTrail, limit: int) -> AuditRows:
        """Return the newest rows of a trail of the audit log, oldest first."""
        return AuditRows(trail, await self._service.audit.rows(trail, limit))

    async def verify_audit(self) -> AuditReport:
        """Check the whole audit log."""
        return await self._service.audit.verify()

    async def _opened(self, incident_id: str) -> IncidentView:
        view = await self.incident(incident_id)
        if self._service.incidents.find(incident_id) is None:
            raise QedgeError("incident.resolved", f"The incident was resolved by {view.ended_by}.")
        return view

    def _device(self, device_id: str) -> Subject:
        subject = self._service.subjects.find(device_id) if is_name(device_id) else None
        if subject is None:
            raise QedgeError(
                "incident.no_device", f"No device {device_id} is known here.", fix="`qedge device list` has all."
            )
        return subject
