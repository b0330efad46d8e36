"""Routes of the other nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import body_of
from qedge.web.route import Route
from qedge.wire.mesh import PeerList
from qedge.wire.node import PingRequest, PingView

if TYPE_CHECKING:
    from qedge.web.peers.ports import PeersPort

NODE: Final[web.AppKey[PeersPort]] = web.AppKey("qedge.web.peers")


async def peers(request: web.Request) -> web.Response:
    """List the members of the fleet."""
    return json_answer(request.app[NODE].peers())


async def ping(request: web.Request) -> web.Response:
    """Measure the way to a peer."""
    return json_answer(await request.app[NODE].ping(await body_of(request, PingRequest)))


ROUTES: Final = (
    Route("GET", "/v1/peers", Right.VIEW, peers, answer=PeerList),
    Route("POST", "/v1/ping", Right.ADMIN, ping, body=PingRequest, answer=PingView),
)
