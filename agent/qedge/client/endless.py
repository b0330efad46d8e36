"""Answers of a node that do not end: server-sent events, read one by one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Final

import aiohttp

from qedge.base.errors import QedgeError
from qedge.client.answers import error_in, timed_out
from qedge.client.sse import EventParser, ServerEvent

SILENCE_S: Final = 45.0
"""The node sends a heartbeat every 15 s, so an event stream silent for this long is dead."""
_CONNECT_S: Final = 5.0


async def read_endless(
    session: aiohttp.ClientSession, path: str, lost: Callable[[Exception], QedgeError], after: str = ""
) -> AsyncGenerator[ServerEvent, None]:
    """Read a stream until it ends; `after` is the id of the last event that is known.

    Raises `client.no_daemon` where the node is gone (made by `lost`), `client.timeout` where it falls silent.
    """
    parser = EventParser()
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=SILENCE_S)
    headers = {"Last-Event-ID": after} if after else {}
    try:
        async with session.get(path, timeout=timeout, headers=headers) as answer:
            if answer.status != 200:
                raise error_in(answer.status, await answer.read())
            async for chunk in answer.content.iter_any():
                for event in parser.feed(chunk):
                    yield event
    except TimeoutError as error:
        raise timed_out(SILENCE_S) from error
    except (aiohttp.ClientError, OSError) as error:
        raise lost(error) from error
