"""Routes about segments of attached devices and commands to devices; commands on the unix socket only."""

from __future__ import annotations

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.ids import is_name
from qedge.web.answers import json_answer
from qedge.web.requests import body_of, caller_of
from qedge.web.state import state_of
from qedge.wire.segments import DeviceCommand


async def segments(request: web.Request) -> web.Response:
    """List all segments, and what waits for the upstream."""
    return json_answer(await state_of(request).node.segments.segments())


async def segment(request: web.Request) -> web.Response:
    """Describe one segment."""
    return json_answer(await state_of(request).node.segments.segment(_name(request)))


async def rekey(request: web.Request) -> web.Response:
    """Give a segment a new key."""
    return json_answer(await state_of(request).node.segments.rekey(_name(request), caller_of(request).label))


async def command(request: web.Request) -> web.Response:
    """Command a device, and wait for its answer."""
    order = await body_of(request, DeviceCommand)
    name = _name(request)
    return json_answer(await state_of(request).node.segments.command(name, order, caller_of(request).label))


def _name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not is_name(name):
        raise QedgeError("http.not_found", "No such name can exist: letters, digits, _ and -, at most 36.")
    return name
