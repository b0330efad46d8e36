"""Routes about threats: incidents, the trust of devices, and the audit log."""

from __future__ import annotations

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.ids import is_name, is_uuid
from qedge.web.answers import json_answer
from qedge.web.requests import body_of, caller_of, number_of
from qedge.web.state import state_of
from qedge.wire.audit import AuditTrail
from qedge.wire.incidents import IncidentChange

MAX_LISTED = 1000


async def incidents(request: web.Request) -> web.Response:
    """List incidents, newest first; `all=1` lists resolved ones too."""
    limit = int(number_of(request, "limit", 100, 1, MAX_LISTED))
    only_open = not number_of(request, "all", 0, 0, 1)
    return json_answer(await state_of(request).node.security.incidents(limit, only_open=only_open))


async def incident(request: web.Request) -> web.Response:
    """Return one incident with its evidence and with what was done."""
    return json_answer(await state_of(request).node.security.incident(_id(request)))


async def acknowledge(request: web.Request) -> web.Response:
    """Say that an operator has seen an incident."""
    change = await body_of(request, IncidentChange)
    actor = caller_of(request).label
    return json_answer(await state_of(request).node.security.acknowledge(_id(request), change, actor))


async def resolve(request: web.Request) -> web.Response:
    """End an incident, and the device's quarantine where that is asked for."""
    change = await body_of(request, IncidentChange)
    actor = caller_of(request).label
    return json_answer(await state_of(request).node.security.resolve(_id(request), change, actor))


async def story(request: web.Request) -> web.Response:
    """Tell how a device came to its trust."""
    name = request.match_info["name"]
    if not is_name(name):
        raise QedgeError("http.not_found", "No such name can exist: letters, digits, _ and -, at most 36.")
    return json_answer(await state_of(request).node.security.device_story(name))


async def audit(request: web.Request) -> web.Response:
    """Return the newest rows of a trail of the audit log: `acts` or `denials`."""
    try:
        trail = AuditTrail(request.match_info["trail"])
    except ValueError:
        raise QedgeError("http.not_found", "The trails are `acts` and `denials`.") from None
    limit = int(number_of(request, "limit", 100, 1, MAX_LISTED))
    return json_answer(await state_of(request).node.security.audit_rows(trail, limit))


async def verify(request: web.Request) -> web.Response:
    """Check the whole audit log, which may take some seconds."""
    return json_answer(await state_of(request).node.security.verify_audit())


def _id(request: web.Request) -> str:
    incident_id = request.match_info["id"]
    if not is_uuid(incident_id):
        raise QedgeError("http.not_found", "No such incident can exist: its id would be a UUID.")
    return incident_id
