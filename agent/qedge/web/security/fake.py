"""Threats of the node that tests use: one incident with a device that floods, and an audit log of two rows."""

from __future__ import annotations

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.wire.audit import AuditKind, AuditReport, AuditRow, AuditRows, AuditTrail, TrailReport
from qedge.wire.incidents import (
    ActRow,
    DeviceStory,
    EvidenceRow,
    IncidentChange,
    IncidentList,
    IncidentView,
    SubjectIs,
    TrustRow,
)

INCIDENT = "019aca00-0000-7000-8000-000000000001"
DEVICE = "pump-7"
_ZERO = "0" * 64


class FakeSecurity:
    """Implements `SecurityPort`; `intact` off makes the audit log one that was tampered with."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.intact = True
        utc_ns = clock.utc_ns()
        self.view = IncidentView(
            id=INCIDENT,
            node="box-1",
            subject=DEVICE,
            subject_is=SubjectIs.DEVICE,
            evidence="flooding",
            state="contained",
            severity=0.8,
            opened_utc_ns=utc_ns,
            changed_utc_ns=utc_ns,
            device_class="pump",
            score=10.0,
            count=3,
            rows=(EvidenceRow(utc_ns, "flooding", 0.8, "6000 messages within 5 s"),),
            acts=(ActRow(utc_ns, "throttle", "done"), ActRow(utc_ns, "quarantine", "done")),
        )

    async def incidents(self, limit: int, *, only_open: bool) -> IncidentList:
        """Return the one incident."""
        is_open = self.view.state != "resolved"
        return IncidentList((self.view,)[:limit] if is_open or not only_open else (), int(is_open), "enforce")

    async def incident(self, incident_id: str) -> IncidentView:
        """Return it where its id is right."""
        if incident_id != INCIDENT:
            raise QedgeError("incident.not_found", f"No incident {incident_id} is known here.")
        return self.view

    async def acknowledge(self, incident_id: str, change: IncidentChange, actor: str) -> IncidentView:
        """Acknowledge it."""
        await self.incident(incident_id)
        self.view = msgspec.structs.replace(self.view, acknowledged_by=actor, note=change.note)
        return self.view

    async def resolve(self, incident_id: str, change: IncidentChange, actor: str) -> IncidentView:
        """Resolve it."""
        view = await self.incident(incident_id)
        if view.state == "resolved":
            raise QedgeError("incident.resolved", f"The incident was resolved by {view.ended_by}.")
        utc_ns = self._clock.utc_ns()
        self.view = msgspec.structs.replace(
            view, state="resolved", ended_by=actor, ended_utc_ns=utc_ns, note=change.note or view.note
        )
        return self.view

    async def device_story(self, device_id: str) -> DeviceStory:
        """Tell of the one device."""
        if device_id != DEVICE:
            raise QedgeError("incident.no_device", f"No device {device_id} is known here.")
        rows = (TrustRow(self._clock.utc_ns(), "flooding", -48.0, 3, 50, 2),)
        return DeviceStory(DEVICE, 2, 2.0, True, False, 0, rows, (self.view,))

    async def audit_rows(self, trail: AuditTrail, limit: int) -> AuditRows:
        """Return two rows of acts."""
        utc_ns = self._clock.utc_ns()
        rows = (
            AuditRow(1, utc_ns, AuditKind.RESPONSE, _ZERO, DEVICE, "quarantine", "", "done", "flooding", "node"),
            AuditRow(2, utc_ns, AuditKind.ACT, "1" * 64, DEVICE, "release", "", "", "it was\x1b[2J a test", "uid:0"),
        )
        return AuditRows(trail, rows[-limit:] if trail is AuditTrail.ACTS else ())

    async def verify_audit(self) -> AuditReport:
        """Say whether the log is intact."""
        faults = () if self.intact else ("acts-000000000001.jsonl:2 was altered: its hash is another",)
        acts = TrailReport(AuditTrail.ACTS, 1, 2, 1, 2, "2" * 64, 0, 0, (), faults)
        denials = TrailReport(AuditTrail.DENIALS, 0, 0, 0, 0, _ZERO, 0, 0, ())
        return AuditReport(self.intact, "ab" * 16, (acts, denials))
