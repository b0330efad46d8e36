"""Routes about the node: status, telemetry, drain, random bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import body_of
from qedge.web.route import Route
from qedge.wire.node import DrainChange, DrainView, NodeStatus, RandomRequest, RandomView
from qedge.wire.telemetry import TelemetryView

if TYPE_CHECKING:
    from qedge.web.node.ports import OwnPort

NODE: Final[web.AppKey[OwnPort]] = web.AppKey("qedge.web.node")


async def status(request: web.Request) -> web.Response:
    """Describe the node."""
    return json_answer(request.app[NODE].status())


async def random(request: web.Request) -> web.Response:
    """Draw random bytes."""
    return json_answer(await request.app[NODE].random(await body_of(request, RandomRequest)))


async def telemetry(request: web.Request) -> web.Response:
    """Answer with how telemetry stands."""
    return json_answer(request.app[NODE].telemetry())


async def drain_view(request: web.Request) -> web.Response:
    """Tell whether the node takes jobs."""
    return json_answer(request.app[NODE].drain_view())


async def drain(request: web.Request) -> web.Response:
    """Give the jobs of the node away and take no new ones, or undo that."""
    return json_answer(await request.app[NODE].drain(await body_of(request, DrainChange)))


ROUTES: Final = (
    Route("GET", "/v1/status", Right.VIEW, status, answer=NodeStatus),
    Route("POST", "/v1/random", Right.DRAW, random, body=RandomRequest, answer=RandomView),
    Route("GET", "/v1/telemetry", Right.VIEW, telemetry, answer=TelemetryView),
    Route("GET", "/v1/drain", Right.VIEW, drain_view, answer=DrainView),
    Route("POST", "/v1/drain", Right.ADMIN, drain, body=DrainChange, answer=DrainView),
)
