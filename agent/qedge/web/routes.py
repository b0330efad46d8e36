"""The route table: method, pattern, the right it asks for, and its handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from qedge.web import routes_events, routes_fleet, routes_jobs, routes_node, routes_page, routes_public
from qedge.web.access import Right


@dataclass(frozen=True, slots=True)
class Route:
    """`navigation`: another site may link to it; `endless`: it has no time limit because it streams."""

    method: str
    pattern: str
    right: Right
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    navigation: bool = False
    endless: bool = False


ROUTES: Final = (
    Route("GET", "/health/live", Right.PUBLIC, routes_public.live),
    Route("GET", "/health/ready", Right.PUBLIC, routes_public.ready),
    Route("GET", "/metrics", Right.PUBLIC, routes_public.metrics),
    Route("GET", "/", Right.PUBLIC, routes_page.index, navigation=True),
    Route("GET", "/page/{file}", Right.PUBLIC, routes_page.file),
    Route("POST", "/v1/page-session", Right.PUBLIC, routes_page.login),
    Route("DELETE", "/v1/page-session", Right.PUBLIC, routes_page.logout),
    Route("POST", "/v1/page-link", Right.ADMIN, routes_page.link),
    Route("GET", "/v1/status", Right.VIEW, routes_node.status),
    Route("GET", "/v1/drivers", Right.VIEW, routes_node.drivers),
    Route("PATCH", "/v1/drivers/{name}", Right.ADMIN, routes_node.change_driver),
    Route("GET", "/v1/links", Right.VIEW, routes_node.links),
    Route("POST", "/v1/links/{name}/measure", Right.MEASURE, routes_node.measure_link),
    Route("POST", "/v1/random", Right.DRAW, routes_node.random),
    Route("GET", "/v1/peers", Right.VIEW, routes_node.peers),
    Route("POST", "/v1/ping", Right.ADMIN, routes_node.ping),
    Route("GET", "/v1/identity", Right.VIEW, routes_fleet.identity),
    Route("PUT", "/v1/identity", Right.ADMIN, routes_fleet.adopt),
    Route("POST", "/v1/identity/requests", Right.ADMIN, routes_fleet.new_identity),
    Route("GET", "/v1/identity/broker", Right.ADMIN, routes_fleet.broker),
    Route("POST", "/v1/join", Right.ADMIN, routes_fleet.join),
    Route("GET", "/v1/joins", Right.ADMIN, routes_fleet.pending_joins),
    Route("POST", "/v1/joins/{id}", Right.ADMIN, routes_fleet.answer_join),
    Route("POST", "/v1/revocations", Right.ADMIN, routes_fleet.revocations),
    Route("GET", "/v1/renewals", Right.ADMIN, routes_fleet.renewals),
    Route("POST", "/v1/renewals/{name}", Right.ADMIN, routes_fleet.renew),
    Route("GET", "/v1/jobs", Right.VIEW, routes_jobs.listing),
    Route("POST", "/v1/jobs", Right.SUBMIT, routes_jobs.submit),
    Route("POST", "/v1/batches", Right.SUBMIT, routes_jobs.submit_batch),
    Route("POST", "/v1/templates", Right.SUBMIT, routes_jobs.add_template),
    Route("GET", "/v1/templates/{hash}", Right.VIEW, routes_jobs.template),
    Route("GET", "/v1/jobs/{id}", Right.VIEW, routes_jobs.one),
    Route("DELETE", "/v1/jobs/{id}", Right.SUBMIT, routes_jobs.cancel),
    Route("GET", "/v1/events", Right.VIEW, routes_events.events, endless=True),
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
