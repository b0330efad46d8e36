"""What the HTTP interface needs of threats, for the operator's programs; `qedge.security.desk` fills it."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.audit import AuditReport, AuditRows, AuditTrail
from qedge.wire.incidents import DeviceStory, IncidentChange, IncidentList, IncidentView


class SecurityPort(Protocol):
    """Incidents, trust and the audit log. `actor` is who asks; it stands in the audit log before anything is done."""

    async def incidents(self, limit: int, *, only_open: bool) -> IncidentList:
        """Return the newest incidents."""
        ...

    async def incident(self, incident_id: str) -> IncidentView:
        """Return one incident; raises `incident.not_found`."""
        ...

    async def acknowledge(self, incident_id: str, change: IncidentChange, actor: str) -> IncidentView:
        """Say that an operator has seen it; raises `incident.*`, `audit.unavailable`."""
        ...

    async def resolve(self, incident_id: str, change: IncidentChange, actor: str) -> IncidentView:
        """End an incident, and with `release` the device's quarantine; raises `incident.*`, `audit.unavailable`."""
        ...

    async def device_story(self, device_id: str) -> DeviceStory:
        """Tell how a device came to its trust; raises `incident.no_device`."""
        ...

    async def audit_rows(self, trail: AuditTrail, limit: int) -> AuditRows:
        """Return the newest rows of a trail of the audit log, oldest first."""
        ...

    async def verify_audit(self) -> AuditReport:
        """Check the whole audit log."""
        ...


class SecurityNode(Protocol):
    """The node, as far as this is about it."""

    @property
    def security(self) -> SecurityPort:
        """Threats and what is done about them; raises `security.off` where nobody watches."""
        ...
