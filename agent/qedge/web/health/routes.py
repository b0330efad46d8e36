"""Routes for everyone on the box: health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.health import prometheus
from qedge.web.health.readiness import readiness
from qedge.web.route import Route
from qedge.web.state import state_of
from qedge.wire.http import Live, Readiness

if TYPE_CHECKING:
    from qedge.web.health.ports import HealthPort

NODE: Final[web.AppKey[HealthPort]] = web.AppKey("qedge.web.health")


async def live(_request: web.Request) -> web.Response:
    """Answer at all: the event loop runs."""
    return json_answer({"live": True})


async def ready(request: web.Request) -> web.Response:
    """Say whether the node does its work now; 503 with the reasons where not."""
    node = request.app[NODE]
    status = node.status()
    missing = status.not_ready if status.not_ready or status.ready else ("node",)
    view = readiness(missing, node.pulses())
    return json_answer(view, 200 if view.ready else 503)


async def metrics(request: web.Request) -> web.Response:
    """Give all metrics as Prometheus reads them."""
    text = prometheus.render(state_of(request).metrics)
    return web.Response(body=text.encode(), headers={"Content-Type": prometheus.CONTENT_TYPE})


ROUTES: Final = (
    Route("GET", "/health/live", Right.PUBLIC, live, answer=Live),
    Route("GET", "/health/ready", Right.PUBLIC, ready, answer=Readiness),
    Route("GET", "/metrics", Right.PUBLIC, metrics),
)
