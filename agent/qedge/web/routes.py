"""The route table: method, pattern, the right it asks for, and its handler."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from qedge.web import (
    openapi,
    routes_configuration,
    routes_decode,
    routes_devices,
    routes_events,
    routes_fleet,
    routes_jobs,
    routes_keys,
    routes_node,
    routes_orders,
    routes_page,
    routes_policy,
    routes_public,
    routes_results,
    routes_security,
    routes_segments,
    routes_state,
)
from qedge.web.access import Right
from qedge.web.route import Route
from qedge.wire.assessment import Assessment
from qedge.wire.audit import AuditReport, AuditRows
from qedge.wire.decode import Answer, Request
from qedge.wire.delivery import (
    HandedKeys,
    KeyCollect,
    KeyOverview,
    KeyTake,
    SaeCertificate,
    SaeChange,
    SaeList,
    SaePermit,
    SaeRequest,
    SaeRevoked,
    SaeView,
)
from qedge.wire.device import DeviceView
from qedge.wire.http import LinkList, Live, PageLogin, PageSession, Readiness
from qedge.wire.incidents import DeviceStory, IncidentChange, IncidentList, IncidentView
from qedge.wire.jobs import (
    BatchView,
    JobBatch,
    JobEstimate,
    JobList,
    JobSubmission,
    JobView,
    TemplateText,
    TemplateView,
)
from qedge.wire.mesh import PeerList
from qedge.wire.node import (
    DrainChange,
    DrainView,
    DriverChange,
    DriverList,
    DriverView,
    LinkMeasure,
    LinkView,
    NodeStatus,
    PageLink,
    PingRequest,
    PingView,
    RandomRequest,
    RandomView,
)
from qedge.wire.policy import PolicyNotice, PolicyView, RecordCommand, RecordedRequests
from qedge.wire.segments import CommandView, DeviceCommand, SegmentDetail, SegmentList, SegmentView
from qedge.wire.standing import Standing, StandingList
from qedge.wire.telemetry import TelemetryView
from qedge.wire.trust import (
    BrokerAddress,
    IdentityView,
    JoinAnswer,
    JoinCommand,
    Membership,
    NewIdentity,
    PendingJoins,
    Renewals,
    RevocationNotice,
    SigningRequest,
)


async def describe(_request: web.Request) -> web.Response:
    """Describe this interface in OpenAPI 3.1."""
    return web.Response(body=openapi.document(ROUTES), content_type="application/json", charset="utf-8")


ROUTES: Final = (
    Route("GET", "/health/live", Right.PUBLIC, routes_public.live, answer=Live),
    Route("GET", "/health/ready", Right.PUBLIC, routes_public.ready, answer=Readiness),
    Route("GET", "/metrics", Right.PUBLIC, routes_public.metrics),
    Route("GET", "/", Right.PUBLIC, routes_page.index, navigation=True),
    Route("GET", "/page/{file}", Right.PUBLIC, routes_page.file),
    Route("POST", "/v1/page-session", Right.PUBLIC, routes_page.login, body=PageLogin, answer=PageSession),
    Route("DELETE", "/v1/page-session", Right.PUBLIC, routes_page.logout),
    Route("POST", "/v1/page-link", Right.ADMIN, routes_page.link, answer=PageLink),
    Route("GET", "/v1/status", Right.VIEW, routes_node.status, answer=NodeStatus),
    Route("GET", "/v1/drivers", Right.VIEW, routes_node.drivers, answer=DriverList),
    Route("PATCH", "/v1/drivers/{name}", Right.ADMIN, routes_node.change_driver, body=DriverChange, answer=DriverView),
    Route("POST", "/v1/drivers/{name}/assess", Right.MEASURE, routes_node.assess, answer=Assessment),
    Route("GET", "/v1/drivers/{name}/device", Right.VIEW, routes_node.device, answer=DeviceView),
    Route("GET", "/v1/links", Right.VIEW, routes_node.links, answer=LinkList),
    Route(
        "POST", "/v1/links/{name}/measure", Right.MEASURE, routes_node.measure_link, body=LinkMeasure, answer=LinkView
    ),
    Route("GET", "/v1/keys", Right.VIEW, routes_keys.overview, answer=KeyOverview),
    Route("POST", "/v1/keys", Right.KEYS, routes_keys.take, body=KeyTake, answer=HandedKeys),
    Route("POST", "/v1/keys/collect", Right.KEYS, routes_keys.collect, body=KeyCollect, answer=HandedKeys),
    Route("GET", "/v1/saes", Right.VIEW, routes_keys.saes, answer=SaeList),
    Route("PUT", "/v1/saes/{name}", Right.KEYS, routes_keys.put_sae, body=SaeChange, answer=SaeView),
    Route("DELETE", "/v1/saes/{name}", Right.KEYS, routes_keys.remove_sae, answer=SaeRevoked),
    Route("POST", "/v1/saes/{name}/permit", Right.KEYS, routes_keys.permit, body=SaePermit, answer=SaeView),
    Route(
        "POST", "/v1/saes/{name}/certificates", Right.KEYS, routes_keys.certify, body=SaeRequest, answer=SaeCertificate
    ),
    Route("DELETE", "/v1/saes/{name}/certificates", Right.KEYS, routes_keys.revoke, answer=SaeRevoked),
    Route("GET", "/v1/incidents", Right.VIEW, routes_security.incidents, answer=IncidentList, query=("limit", "all")),
    Route("GET", "/v1/incidents/{id}", Right.VIEW, routes_security.incident, answer=IncidentView),
    Route(
        "POST",
        "/v1/incidents/{id}/acknowledge",
        Right.ADMIN,
        routes_security.acknowledge,
        body=IncidentChange,
        answer=IncidentView,
    ),
    Route(
        "POST",
        "/v1/incidents/{id}/resolve",
        Right.ADMIN,
        routes_security.resolve,
        body=IncidentChange,
        answer=IncidentView,
    ),
    Route("GET", "/v1/trust/{name}", Right.VIEW, routes_security.story, answer=DeviceStory),
    Route("GET", "/v1/audit/{trail}", Right.ADMIN, routes_security.audit, answer=AuditRows, query=("limit",)),
    Route("POST", "/v1/audit", Right.ADMIN, routes_security.verify, answer=AuditReport),
    Route("GET", "/v1/segments", Right.VIEW, routes_segments.segments, answer=SegmentList),
    Route("GET", "/v1/segments/{name}", Right.VIEW, routes_segments.segment, answer=SegmentDetail),
    Route("POST", "/v1/segments/{name}/rekey", Right.ADMIN, routes_segments.rekey, answer=SegmentView),
    Route(
        "POST",
        "/v1/devices/{name}/commands",
        Right.ADMIN,
        routes_segments.command,
        body=DeviceCommand,
        answer=CommandView,
    ),
    Route(
        "POST",
        "/v1/apps/{app}/devices/{name}/commands",
        Right.APP,
        routes_segments.command_as_app,
        body=DeviceCommand,
        answer=CommandView,
    ),
    Route("GET", "/v1/apps/{app}/segments/{name}/readings", Right.APP, routes_segments.follow, endless=True),
    Route("POST", "/v1/random", Right.DRAW, routes_node.random, body=RandomRequest, answer=RandomView),
    Route("GET", "/v1/telemetry", Right.VIEW, routes_node.telemetry, answer=TelemetryView),
    Route("GET", "/v1/drain", Right.VIEW, routes_node.drain_view, answer=DrainView),
    Route("POST", "/v1/drain", Right.ADMIN, routes_node.drain, body=DrainChange, answer=DrainView),
    Route("GET", "/v1/peers", Right.VIEW, routes_node.peers, answer=PeerList),
    Route("GET", "/v1/standings", Right.VIEW, routes_results.standings, answer=StandingList),
    Route("POST", "/v1/standings/{name}/pardon", Right.ADMIN, routes_results.pardon, answer=Standing),
    Route("POST", "/v1/ping", Right.ADMIN, routes_node.ping, body=PingRequest, answer=PingView),
    Route("GET", "/v1/identity", Right.VIEW, routes_fleet.identity, answer=IdentityView),
    Route("PUT", "/v1/identity", Right.ADMIN, routes_fleet.adopt, body=Membership, answer=IdentityView),
    Route(
        "POST",
        "/v1/identity/requests",
        Right.ADMIN,
        routes_fleet.new_identity,
        body=NewIdentity,
        answer=SigningRequest,
        status=201,
    ),
    Route("GET", "/v1/identity/broker", Right.ADMIN, routes_fleet.broker, answer=BrokerAddress, query=("this_box",)),
    Route("POST", "/v1/join", Right.ADMIN, routes_fleet.join, body=JoinCommand, answer=IdentityView),
    Route("GET", "/v1/joins", Right.ADMIN, routes_fleet.pending_joins, answer=PendingJoins, query=("wait_s",)),
    Route("POST", "/v1/joins/{id}", Right.ADMIN, routes_fleet.answer_join, body=JoinAnswer, status=204),
    Route("POST", "/v1/revocations", Right.ADMIN, routes_fleet.revocations, body=RevocationNotice, status=204),
    Route("GET", "/v1/renewals", Right.ADMIN, routes_fleet.renewals, answer=Renewals, query=("due_only",)),
    Route("POST", "/v1/renewals/{name}", Right.ADMIN, routes_fleet.renew, body=Membership, status=204),
    Route("GET", "/v1/policy", Right.VIEW, routes_policy.show, answer=PolicyView),
    Route("PUT", "/v1/policy", Right.ADMIN, routes_policy.take, body=PolicyNotice, answer=PolicyView),
    Route("POST", "/v1/policy/reload", Right.ADMIN, routes_policy.reload, answer=PolicyView),
    Route(
        "POST",
        "/v1/policy/recordings",
        Right.ADMIN,
        routes_policy.record,
        body=RecordCommand,
        answer=RecordedRequests,
    ),
    Route("GET", "/v1/jobs", Right.VIEW, routes_jobs.listing, answer=JobList, query=("limit",)),
    Route(
        "POST",
        "/v1/jobs",
        Right.SUBMIT,
        routes_jobs.submit,
        body=JobSubmission,
        answer=JobView | JobEstimate,
        status=202,
        query=("wait_s",),
    ),
    Route("POST", "/v1/batches", Right.SUBMIT, routes_jobs.submit_batch, body=JobBatch, answer=BatchView),
    Route(
        "POST",
        "/v1/templates",
        Right.SUBMIT,
        routes_jobs.add_template,
        body=TemplateText,
        answer=TemplateView,
        status=201,
    ),
    Route("GET", "/v1/templates/{hash}", Right.VIEW, routes_jobs.template, answer=TemplateView),
    Route("GET", "/v1/jobs/{id}", Right.VIEW, routes_jobs.one, answer=JobView, query=("wait_s",)),
    Route("DELETE", "/v1/jobs/{id}", Right.SUBMIT, routes_jobs.cancel, answer=JobView),
    *routes_devices.DEVICE_ROUTES,
    *routes_state.STATE_ROUTES,
    *routes_orders.ORDER_ROUTES,
    *routes_configuration.CONFIGURATION_ROUTES,
    Route("GET", "/v1/openapi.json", Right.VIEW, describe),
    Route("GET", "/v1/events", Right.VIEW, routes_events.events, endless=True),
    Route("GET", "/v1/decode", Right.SUBMIT, routes_decode.decode, endless=True, messages=(Request, Answer)),
)

_BY_PATTERN: Final = {(route.method, route.pattern): route for route in ROUTES}


def add_routes(app: web.Application) -> None:
    """Put the table into an application."""
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.pattern, route.handler, allow_head=False)
        else:
            app.router.add_route(route.method, route.pattern, route.handler)


def find_route(request: web.Request) -> Route | None:
    """Return the row that a request was matched to; None for unknown paths and methods."""
    resource = request.match_info.route.resource
    return None if resource is None else _BY_PATTERN.get((request.method, resource.canonical))
