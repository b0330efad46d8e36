"""One row of the route table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import UnionType

import msgspec
from aiohttp import web

from qedge.web.access import Right


@dataclass(frozen=True, slots=True)
class Route:
    """`navigation`: another site may link to it; `endless`: it has no time limit because it streams.

    `messages` are the text messages of a WebSocket, those of the caller and those of the node.
    `body` and `answer` are the structs that are taken and given as JSON, `status` that of a good answer, `query` names
    the numbers that may stand in the query. The description of the interface is made from them.
    """

    method: str
    pattern: str
    right: Right
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    navigation: bool = False
    endless: bool = False
    body: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | UnionType | None = None
    status: int = 200
    query: tuple[str, ...] = ()
    messages: tuple[UnionType, ...] = ()
