"""Routes about threats: incidents, the trust of devices, and the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.ids import is_uuid
from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import body_of, caller_of, name_of, number_of
from qedge.web.route import Route
from qedge.wire.audit import AuditReport, AuditRows, AuditTrail
from qedge.wire.incidents import DeviceStory, IncidentChange, IncidentList, IncidentView

if TYPE_CHECKING:
    from qedge.web.security.ports import SecurityNode

NODE: Final[web.AppKey[SecurityNode]] = web.AppKey("qedge.web.security")

MAX_LISTED = 1000


async def incidents(request: web.Request) -> web.Response:
    """List incidents, newest first; `all=1` lists resolved ones too."""
    limit = int(number_of(request, "limit", 100, 1, MAX_LISTED))
    only_open = not number_of(request, "all", 0, 0, 1)
    return json_answer(await request.app[NODE].security.incidents(limit, only_open=only_open))


async def incident(request: web.Request) -> web.Response:
    """Return one incident with its evidence and with what was done."""
    return json_answer(await request.app[NODE].security.incident(_id(request)))


async def acknowledge(request: web.Request) -> web.Response:
    """Say that an operator has seen an incident."""
    change = await body_of(request, IncidentChange)
    actor = caller_of(request).label
    return json_answer(await request.app[NODE].security.acknowledge(_id(request), change, actor))


async def resolve(request: web.Request) -> web.Response:
    """End an incident, and the device's quarantine where that is asked for."""
    change = await body_of(request, IncidentChange)
    actor = caller_of(request).label
    return json_answer(await request.app[NODE].security.resolve(_id(request), change, actor))


async def story(request: web.Request) -> web.Response:
    """Tell how a device came to its trust."""
    name = name_of(request)
    return json_answer(await request.app[NODE].security.device_story(name))


async def audit(request: web.Request) -> web.Response:
    """Return the newest rows of a trail of the audit log: `acts` or `denials`."""
    try:
        trail = AuditTrail(request.match_info["trail"])
    except ValueError:
        raise QedgeError("http.not_found", "The trails are `acts` and `denials`.") from None
    limit = int(number_of(request, "limit", 100, 1, MAX_LISTED))
    return json_answer(await request.app[NODE].security.audit_rows(trail, limit))


async def verify(request: web.Request) -> web.Response:
    """Check the whole audit log, which may take some seconds."""
    return json_answer(await request.app[NODE].security.verify_audit())


def _id(request: web.Request) -> str:
    incident_id = request.match_info["id"]
    if not is_uuid(incident_id):
        raise QedgeError("http.not_found", "No such incident can exist: its id would be a UUID.")
    return incident_id


ROUTES: Final = (
    Route("GET", "/v1/incidents", Right.VIEW, incidents, answer=IncidentList, query=("limit", "all")),
    Route("GET", "/v1/incidents/{id}", Right.VIEW, incident, answer=IncidentView),
    Route(
        "POST",
        "/v1/incidents/{id}/acknowledge",
        Right.ADMIN,
        acknowledge,
        body=IncidentChange,
        answer=IncidentView,
    ),
    Route(
        "POST",
        "/v1/incidents/{id}/resolve",
        Right.ADMIN,
        resolve,
        body=IncidentChange,
        answer=IncidentView,
    ),
    Route("GET", "/v1/trust/{name}", Right.VIEW, story, answer=DeviceStory),
    Route("GET", "/v1/audit/{trail}", Right.ADMIN, audit, answer=AuditRows, query=("limit",)),
    Route("POST", "/v1/audit", Right.ADMIN, verify, answer=AuditReport),
)
