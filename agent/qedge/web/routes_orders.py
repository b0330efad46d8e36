"""Routes of commands of fleet operators: only to look at, since they come signed and over MQTT."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import number_of
from qedge.web.route import Route
from qedge.web.state import state_of
from qedge.wire.commands import FleetCommandList, FleetCommandView, is_command_id

MAX_LISTED: Final = 1000


async def listing(request: web.Request) -> web.Response:
    """List the newest commands of fleet operators."""
    limit = int(number_of(request, "limit", 50, 1, MAX_LISTED))
    return json_answer(await state_of(request).node.orders.commands(limit))


async def one(request: web.Request) -> web.Response:
    """Return one of them."""
    command = request.match_info["id"]
    if not is_command_id(command):
        raise QedgeError("order.not_found", "No command can have this id: it is a UUIDv7.")
    return json_answer(await state_of(request).node.orders.command(command))


ORDER_ROUTES: Final = (
    Route("GET", "/v1/orders", Right.VIEW, listing, answer=FleetCommandList, query=("limit",)),
    Route("GET", "/v1/orders/{id}", Right.VIEW, one, answer=FleetCommandView),
)
"""Commands of fleet operators."""
