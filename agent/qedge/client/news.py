"""The event stream of a node, to be read once or for as long as one likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp

from qedge.base.errors import QedgeError
from qedge.client.answers import decode
from qedge.client.endless import read_endless
from qedge.client.sse import ServerEvent
from qedge.wire.events import EventGap, NodeEvent
from qedge.wire.jobs import JobView
from qedge.wire.node import NodeStatus

FROM_START: Final = "0"
"""Follow from the oldest event that the node keeps."""
_RETRY_S: Final = 1.0
_GONE: Final = frozenset({"client.no_daemon", "client.timeout", "internal.stopping", "http.busy"})

Told = NodeStatus | JobView | NodeEvent | EventGap


@dataclass(frozen=True, slots=True)
class Away:
    """The node does not answer; it is asked again."""

    error: QedgeError


@dataclass(frozen=True, slots=True)
class News:
    """One thing that was told, and the id from which to go on (empty: it has none)."""

    what: Told
    id: str = ""


class Newsroom(Protocol):
    """What gives news: a `NodeClient`."""

    def news(self, after: str = "") -> AsyncGenerator[News, None]:
        """Read one stream."""
        ...


async def read_news(
    session: aiohttp.ClientSession, lost: Callable[[Exception], QedgeError], after: str = ""
) -> AsyncGenerator[News, None]:
    """Read one stream until it ends; `after` is an id, or `FROM_START`.

    What is old comes first; the first status says that from then on everything is new. Raises `client.no_daemon` where
    the node is gone (made by `lost`), `client.timeout` where it falls silent.
    """
    async with aclosing(read_endless(session, "/v1/events", lost, after)) as events:
        async for event in events:
            what = _told(event)
            if what is not None:
                yield News(what, event.id)


def _told(event: ServerEvent) -> Told | None:
    if event.name == "status":
        return decode(event.data, NodeStatus)
    if event.name == "job":
        return decode(event.data, JobView)
    if event.name == "event":
        return decode(event.data, NodeEvent)
    return decode(event.data, EventGap) if event.name == "gap" else None


async def follow(node: Newsroom, after: str = "") -> AsyncGenerator[News | Away, None]:
    """Follow a node for ever: where it goes away say so once, ask again every second, and go on where it ended."""
    away = False
    while True:
        try:
            async with aclosing(node.news(after)) as stream:
                async for news in stream:
                    away, after = False, news.id or after
                    yield news
        except QedgeError as error:
            if error.code not in _GONE:
                raise
            if not away:
                yield Away(error)
            away = True
        await asyncio.sleep(_RETRY_S)
