"""The route table: what all capabilities answer, and the description of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.web import openapi
from qedge.web.access import Right
from qedge.web.configuration import routes as configuration_routes
from qedge.web.decode import routes as decode_routes
from qedge.web.devices import routes as devices_routes
from qedge.web.drivers import routes as drivers_routes
from qedge.web.events import routes as events_routes
from qedge.web.fleet import routes as fleet_routes
from qedge.web.health import routes as health_routes
from qedge.web.jobs import routes as jobs_routes
from qedge.web.keys import routes as keys_routes
from qedge.web.links import routes as links_routes
from qedge.web.node import routes as node_routes
from qedge.web.orders import routes as orders_routes
from qedge.web.page import routes as page_routes
from qedge.web.peers import routes as peers_routes
from qedge.web.policy import routes as policy_routes
from qedge.web.results import routes as results_routes
from qedge.web.route import Route
from qedge.web.security import routes as security_routes
from qedge.web.segments import routes as segments_routes
from qedge.web.shared_state import routes as shared_state_routes

if TYPE_CHECKING:
    from qedge.web.ports import NodePort


async def describe(_request: web.Request) -> web.Response:
    """Describe this interface in OpenAPI 3.1."""
    return web.Response(body=openapi.document(ROUTES), content_type="application/json", charset="utf-8")


ROUTES: Final = (
    *health_routes.ROUTES,
    *page_routes.ROUTES,
    *node_routes.ROUTES,
    *drivers_routes.ROUTES,
    *links_routes.ROUTES,
    *keys_routes.ROUTES,
    *security_routes.ROUTES,
    *segments_routes.ROUTES,
    *peers_routes.ROUTES,
    *results_routes.ROUTES,
    *fleet_routes.ROUTES,
    *policy_routes.ROUTES,
    *jobs_routes.ROUTES,
    *devices_routes.ROUTES,
    *shared_state_routes.ROUTES,
    *orders_routes.ROUTES,
    *configuration_routes.ROUTES,
    *events_routes.ROUTES,
    *decode_routes.ROUTES,
    Route("GET", "/v1/openapi.json", Right.VIEW, describe),
)

_BY_PATTERN: Final = {(route.method, route.pattern): route for route in ROUTES}


def add_routes(app: web.Application, node: NodePort) -> None:
    """Put the table into an application, and hand each capability the node as it sees it."""
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.pattern, route.handler, allow_head=False)
        else:
            app.router.add_route(route.method, route.pattern, route.handler)
    app[configuration_routes.NODE] = node
    app[decode_routes.NODE] = node
    app[devices_routes.NODE] = node
    app[drivers_routes.NODE] = node
    app[fleet_routes.NODE] = node
    app[health_routes.NODE] = node
    app[jobs_routes.NODE] = node
    app[keys_routes.NODE] = node
    app[links_routes.NODE] = node
    app[node_routes.NODE] = node
    app[orders_routes.NODE] = node
    app[peers_routes.NODE] = node
    app[policy_routes.NODE] = node
    app[results_routes.NODE] = node
    app[security_routes.NODE] = node
    app[segments_routes.NODE] = node
    app[shared_state_routes.NODE] = node


def find_route(request: web.Request) -> Route | None:
    """Return the row that a request was matched to; None for unknown paths and methods."""
    resource = request.match_info.route.resource
    return None if resource is None else _BY_PATTERN.get((request.method, resource.canonical))
