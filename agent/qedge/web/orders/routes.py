"""Routes of commands of fleet operators: only to look at, since they come signed and over MQTT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import number_of
from qedge.web.route import Route
from qedge.wire.commands import FleetCommandList, FleetCommandView, is_command_id

if TYPE_CHECKING:
    from qedge.web.orders.ports import OrdersNode

NODE: Final[web.AppKey[OrdersNode]] = web.AppKey("qedge.web.orders")

MAX_LISTED: Final = 1000


async def listing(request: web.Request) -> web.Response:
    """List the newest commands of fleet operators."""
    limit = int(number_of(request, "limit", 50, 1, MAX_LISTED))
    return json_answer(await request.app[NODE].orders.commands(limit))


async def one(request: web.Request) -> web.Response:
    """Return one of them."""
    command = request.match_info["id"]
    if not is_command_id(command):
        raise QedgeError("order.not_found", "No command can have this id: it is a UUIDv7.")
    return json_answer(await request.app[NODE].orders.command(command))


ROUTES: Final = (
    Route("GET", "/v1/orders", Right.VIEW, listing, answer=FleetCommandList, query=("limit",)),
    Route("GET", "/v1/orders/{id}", Right.VIEW, one, answer=FleetCommandView),
)
"""Commands of fleet operators."""
