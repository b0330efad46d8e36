"""Routes about segments of attached devices and commands to devices; commands and readings on the unix socket only."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.ids import is_name
from qedge.web.access import check_app
from qedge.web.answers import json_answer, set_headers
from qedge.web.buffer import HEARTBEAT, sse_frame
from qedge.web.requests import body_of, caller_of
from qedge.web.routes_events import WRITE_LIMIT_S
from qedge.web.state import state_of
from qedge.wire.segments import MAX_CHANNELS, DeviceCommand


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


async def command_as_app(request: web.Request) -> web.Response:
    """Command a device as an app, and wait for its answer."""
    app = _app(request)
    order = await body_of(request, DeviceCommand)
    name = _name(request)
    return json_answer(await state_of(request).node.segments.command(name, order, caller_of(request).label, app))


async def follow(request: web.Request) -> web.StreamResponse:
    """Send the readings of a segment to an app until it goes, policy takes its right away or the daemon stops."""
    app, segment = _app(request), _name(request)
    channels = tuple(request.query.getall("channel", ()))
    node = request.query.get("node", "")
    if len(channels) > MAX_CHANNELS or not all(is_name(each) for each in (*channels, node or "here")):
        raise QedgeError("http.bad_request", "channel and node have to be names.")
    async with state_of(request).node.segments.follow(app, segment, channels, node) as news:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        set_headers(answer.headers)
        await answer.prepare(request)
        try:
            async for batch in news:
                check_app(caller_of(request), app, state_of(request).rules)
                frames = b"".join(sse_frame("segment", msgspec.json.encode(each)) for each in batch) or HEARTBEAT
                async with asyncio.timeout(WRITE_LIMIT_S):
                    await answer.write(frames)
        except (ConnectionError, TimeoutError, QedgeError):
            pass  # the reader is gone or reads nothing
    return answer


def _app(request: web.Request) -> str:
    """Return the app as which the caller acts; raises `access.denied` where it is another's."""
    app = _name(request, "app")
    check_app(caller_of(request), app, state_of(request).rules)
    return app


def _name(request: web.Request, key: str = "name") -> str:
    name = request.match_info[key]
    if not is_name(name):
        raise QedgeError("http.not_found", "No such name can exist: letters, digits, _ and -, at most 36.")
    return name
