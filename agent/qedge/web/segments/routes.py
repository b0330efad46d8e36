"""Routes about segments of attached devices and commands to devices; commands and readings on the unix socket only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.ids import is_name
from qedge.web.access import Right, check_app
from qedge.web.answers import json_answer, set_headers
from qedge.web.events.buffer import HEARTBEAT, sse_frame
from qedge.web.events.routes import WRITE_LIMIT_S
from qedge.web.requests import body_of, caller_of, name_of
from qedge.web.route import Route
from qedge.web.state import state_of
from qedge.wire.segments import MAX_CHANNELS, CommandView, DeviceCommand, SegmentDetail, SegmentList, SegmentView

if TYPE_CHECKING:
    from qedge.web.segments.ports import SegmentsNode

NODE: Final[web.AppKey[SegmentsNode]] = web.AppKey("qedge.web.segments")


async def segments(request: web.Request) -> web.Response:
    """List all segments, and what waits for the upstream."""
    return json_answer(await request.app[NODE].segments.segments())


async def segment(request: web.Request) -> web.Response:
    """Describe one segment."""
    return json_answer(await request.app[NODE].segments.segment(name_of(request)))


async def rekey(request: web.Request) -> web.Response:
    """Give a segment a new key."""
    return json_answer(await request.app[NODE].segments.rekey(name_of(request), caller_of(request).label))


async def command(request: web.Request) -> web.Response:
    """Command a device, and wait for its answer."""
    order = await body_of(request, DeviceCommand)
    name = name_of(request)
    return json_answer(await request.app[NODE].segments.command(name, order, caller_of(request).label))


async def command_as_app(request: web.Request) -> web.Response:
    """Command a device as an app, and wait for its answer."""
    app = _app(request)
    order = await body_of(request, DeviceCommand)
    name = name_of(request)
    return json_answer(await request.app[NODE].segments.command(name, order, caller_of(request).label, app))


async def follow(request: web.Request) -> web.StreamResponse:
    """Send the readings of a segment to an app until it goes, policy takes its right away or the daemon stops."""
    app, segment = _app(request), name_of(request)
    channels = tuple(request.query.getall("channel", ()))
    node = request.query.get("node", "")
    if len(channels) > MAX_CHANNELS or not all(is_name(each) for each in (*channels, node or "here")):
        raise QedgeError("http.bad_request", "channel and node have to be names.")
    async with request.app[NODE].segments.follow(app, segment, channels, node) as news:
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
    app = name_of(request, "app")
    check_app(caller_of(request), app, state_of(request).rules)
    return app


ROUTES: Final = (
    Route("GET", "/v1/segments", Right.VIEW, segments, answer=SegmentList),
    Route("GET", "/v1/segments/{name}", Right.VIEW, segment, answer=SegmentDetail),
    Route("POST", "/v1/segments/{name}/rekey", Right.ADMIN, rekey, answer=SegmentView),
    Route(
        "POST",
        "/v1/devices/{name}/commands",
        Right.ADMIN,
        command,
        body=DeviceCommand,
        answer=CommandView,
    ),
    Route(
        "POST",
        "/v1/apps/{app}/devices/{name}/commands",
        Right.APP,
        command_as_app,
        body=DeviceCommand,
        answer=CommandView,
    ),
    Route("GET", "/v1/apps/{app}/segments/{name}/readings", Right.APP, follow, endless=True),
)
