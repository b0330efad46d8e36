"""Routes of QKD links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import body_of, name_of
from qedge.web.route import Route
from qedge.wire.http import LinkList
from qedge.wire.node import LinkMeasure, LinkView

if TYPE_CHECKING:
    from qedge.web.links.ports import LinksPort

NODE: Final[web.AppKey[LinksPort]] = web.AppKey("qedge.web.links")


async def links(request: web.Request) -> web.Response:
    """List the QKD links."""
    return json_answer(LinkList(request.app[NODE].links()))


async def measure_link(request: web.Request) -> web.Response:
    """Take one window on a link."""
    measure = await body_of(request, LinkMeasure)
    return json_answer(await request.app[NODE].measure_link(name_of(request), measure))


ROUTES: Final = (
    Route("GET", "/v1/links", Right.VIEW, links, answer=LinkList),
    Route("POST", "/v1/links/{name}/measure", Right.MEASURE, measure_link, body=LinkMeasure, answer=LinkView),
)
