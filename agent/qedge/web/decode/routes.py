"""The WebSocket of decode streams: hands messages on, both ways, until one side is done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from qedge.base.errors import QedgeError, Side
from qedge.web.access import Right, granted
from qedge.web.answers import set_headers
from qedge.web.requests import caller_of
from qedge.web.route import Route
from qedge.web.state import state_of
from qedge.wire.decode import Answer, DecodeFailed, Request
from qedge.wire.problem import problem_of

if TYPE_CHECKING:
    from qedge.web.decode.ports import DecodeLink, DecodeNode

NODE: Final[web.AppKey[DecodeNode]] = web.AppKey("qedge.web.decode")

OPEN_LIMIT_S: Final = 10.0
WRITE_LIMIT_S: Final = 10.0
_CLOSE_LIMIT_S: Final = 2.0
_ACCESS_CHECK_S: Final = 5.0
_SLACK_BYTES: Final = 64 * 1024


async def decode(request: web.Request) -> web.StreamResponse:
    """Decode syndromes while they come: a WebSocket, whose messages the guide to decoding describes."""
    state = state_of(request)
    socket = web.WebSocketResponse(
        timeout=_CLOSE_LIMIT_S,
        compress=False,
        autoclose=False,
        max_msg_size=state.config.body_limit_bytes + _SLACK_BYTES,
    )
    failure: QedgeError | None = None
    async with request.app[NODE].decode() as link:
        set_headers(socket.headers)
        await socket.prepare(request)
        try:
            await _talk(request, socket, link)
        except QedgeError as error:
            failure = error
        except (ConnectionError, TimeoutError):
            return socket  # the reader is gone or reads nothing
    # whoever sees the end of a stream finds its place free
    await _end(socket, failure)
    return socket


async def _talk(request: web.Request, socket: web.WebSocketResponse, link: DecodeLink) -> None:
    try:
        async with asyncio.timeout(OPEN_LIMIT_S):
            first = await socket.receive()
    except TimeoutError:
        raise QedgeError("decode.idle", "No stream was opened in time.", fix="Send the opening at once.") from None
    if _is_end(first):
        return
    if first.type is not WSMsgType.TEXT:
        raise QedgeError("decode.bad_open", "The first message has to be text.", fix="Send a decode-open/1.")
    await socket.send_str(await link.open(first.data))
    await _first_of(_commits(socket, link), _rounds(socket, link), _watch_access(request))


async def _rounds(socket: web.WebSocketResponse, link: DecodeLink) -> None:
    while True:
        message = await socket.receive()
        if _is_end(message):
            return
        link.take(message.data)


async def _commits(socket: web.WebSocketResponse, link: DecodeLink) -> None:
    while (message := await link.next()) is not None:
        async with asyncio.timeout(WRITE_LIMIT_S):
            await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_str(message))


async def _watch_access(request: web.Request) -> None:
    """Raise where the caller may not use the node any more, as when a page session expires."""
    rules = state_of(request).rules
    while True:
        if Right.SUBMIT not in granted(caller_of(request), rules):
            raise QedgeError("access.no_session", "The session has expired.", fix="Run `qedge open` and use its link.")
        await asyncio.sleep(_ACCESS_CHECK_S)


def _is_end(message: WSMessage) -> bool:
    if message.type is WSMsgType.ERROR:
        raise QedgeError("decode.bad_frame", "The message is too long, or no WebSocket message.")
    return message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED)


async def _first_of(*coroutines: Coroutine[None, None, None]) -> None:
    """Run all until one ends, end the others, and raise what the one raised."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _end(socket: web.WebSocketResponse, failure: QedgeError | None) -> None:
    """Say why the stream is over, where it failed, and end the connection."""
    try:
        async with asyncio.timeout(WRITE_LIMIT_S):
            if failure is None:
                await socket.close(code=WSCloseCode.OK)
                return
            await socket.send_str(msgspec.json.encode(DecodeFailed(problem_of(failure))).decode())
            code = WSCloseCode.POLICY_VIOLATION if failure.spec.side is Side.REMOTE else WSCloseCode.INTERNAL_ERROR
            await socket.close(code=code, message=failure.code.encode())
    except (ConnectionError, TimeoutError):
        return  # the reader is gone or reads nothing


ROUTES: Final = (Route("GET", "/v1/decode", Right.SUBMIT, decode, endless=True, messages=(Request, Answer)),)
