"""Routes of what results of other nodes have been worth."""

from __future__ import annotations

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.ids import is_name
from qedge.web.answers import json_answer
from qedge.web.state import state_of
from qedge.wire.standing import StandingList


async def standings(request: web.Request) -> web.Response:
    """List the nodes whose results were checked."""
    return json_answer(StandingList(state_of(request).node.results.standings()))


async def pardon(request: web.Request) -> web.Response:
    """Give a node jobs again whose result was false."""
    name = request.match_info["name"]
    if not is_name(name):
        raise QedgeError("http.not_found", "No such name can exist: letters, digits, _ and -, at most 36.")
    return json_answer(state_of(request).node.results.pardon(name))
