"""Routes of what results of other nodes have been worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import name_of
from qedge.web.route import Route
from qedge.wire.standing import Standing, StandingList

if TYPE_CHECKING:
    from qedge.web.results.ports import ResultsNode

NODE: Final[web.AppKey[ResultsNode]] = web.AppKey("qedge.web.results")


async def standings(request: web.Request) -> web.Response:
    """List the nodes whose results were checked."""
    return json_answer(StandingList(request.app[NODE].results.standings()))


async def pardon(request: web.Request) -> web.Response:
    """Give a node jobs again whose result was false."""
    name = name_of(request)
    return json_answer(request.app[NODE].results.pardon(name))


ROUTES: Final = (
    Route("GET", "/v1/standings", Right.VIEW, standings, answer=StandingList),
    Route("POST", "/v1/standings/{name}/pardon", Right.ADMIN, pardon, answer=Standing),
)
