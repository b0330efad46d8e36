"""The live stream of events (server-sent events)."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from qedge.web.access import Right, granted
from qedge.web.answers import set_headers
from qedge.web.events.hub import EventHub
from qedge.web.requests import caller_of
from qedge.web.route import Route
from qedge.web.state import state_of

HUB: Final = web.AppKey("qedge.web.events", EventHub)
WRITE_LIMIT_S: Final = 10.0
_MAX_ID: Final = 64


async def events(request: web.Request) -> web.StreamResponse:
    """Send status, jobs and events until the caller goes, the session ends or the daemon stops.

    With `Last-Event-ID` it begins with what came after that one, `0`: with all that is kept.
    """
    state = state_of(request)
    with request.app[HUB].stream(request.headers.get("Last-Event-ID", "")[:_MAX_ID]) as stream:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        set_headers(answer.headers)
        await answer.prepare(request)
        try:
            async for data in stream.frames():
                if Right.VIEW not in granted(caller_of(request), state.rules):
                    break  # the session expired meanwhile
                async with asyncio.timeout(WRITE_LIMIT_S):
                    await answer.write(data)
        except (ConnectionError, TimeoutError):
            pass  # the reader is gone or reads nothing; it comes back by itself
    return answer


ROUTES: Final = (Route("GET", "/v1/events", Right.VIEW, events, endless=True),)
