"""Incidents, trust and the audit log, as methods of a node's client."""

from __future__ import annotations

from urllib.parse import quote

from qedge.client.fleet import Transport
from qedge.wire.audit import AuditReport, AuditRows, AuditTrail
from qedge.wire.incidents import DeviceStory, IncidentChange, IncidentList, IncidentView

_VERIFY_S = 600.0


class SecurityClient:
    """Every method raises `QedgeError`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def incidents(self, limit: int = 100, *, only_open: bool = True) -> IncidentList:
        """Return the newest incidents."""
        return await self._transport.ask("GET", f"/v1/incidents?limit={limit}&all={int(not only_open)}", IncidentList)

    async def incident(self, incident_id: str) -> IncidentView:
        """Return one incident."""
        return await self._transport.ask("GET", _path(incident_id), IncidentView)

    async def acknowledge(self, incident_id: str, change: IncidentChange) -> IncidentView:
        """Say that an operator has seen it."""
        return await self._transport.ask("POST", _path(incident_id, "/acknowledge"), IncidentView, body=change)

    async def resolve(self, incident_id: str, change: IncidentChange) -> IncidentView:
        """End an incident."""
        return await self._transport.ask("POST", _path(incident_id, "/resolve"), IncidentView, body=change)

    async def device_story(self, device: str) -> DeviceStory:
        """Return how a device came to its trust."""
        return await self._transport.ask("GET", f"/v1/trust/{quote(device, safe='')}", DeviceStory)

    async def audit_rows(self, trail: AuditTrail, limit: int = 100) -> AuditRows:
        """Return the newest rows of a trail of the audit log, oldest first."""
        return await self._transport.ask("GET", f"/v1/audit/{trail}?limit={limit}", AuditRows)

    async def verify_audit(self) -> AuditReport:
        """Have the whole audit log checked."""
        return await self._transport.ask("POST", "/v1/audit", AuditReport, timeout_s=_VERIFY_S)


def _path(incident_id: str, rest: str = "") -> str:
    return f"/v1/incidents/{quote(incident_id, safe='')}{rest}"
