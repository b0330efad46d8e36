"""Routes of the state that nodes share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.ids import is_name
from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import body_of, number_of
from qedge.web.route import Route
from qedge.wire.state import StatePut, StateRow, StateRows

if TYPE_CHECKING:
    from qedge.web.shared_state.ports import StateNode

NODE: Final[web.AppKey[StateNode]] = web.AppKey("qedge.web.shared_state")

MAX_WAIT_S: Final = 30.0
_KEY: Final = re.compile(r"[A-Za-z0-9._-]{1,96}")


async def listing(request: web.Request) -> web.Response:
    """List what is held; `since` and `wait_s`: only what is newer than a change, as soon as there is something."""
    state = request.app[NODE].state
    namespace = request.query.get("namespace", "")
    wait_s = number_of(request, "wait_s", 0, 0, MAX_WAIT_S)
    since = int(number_of(request, "since", 0, 0, 2**53))
    if wait_s or since:
        return json_answer(await state.changes(namespace, since, wait_s))
    return json_answer(state.listing(namespace))


async def one(request: web.Request) -> web.Response:
    """Return what stands under a key: one entry, or one of each writer."""
    return json_answer(request.app[NODE].state.find(*_place(request)))


async def put(request: web.Request) -> web.Response:
    """Say something under a key, on behalf of the caller and signed by this node."""
    change = await body_of(request, StatePut)
    return json_answer(await request.app[NODE].state.put(*_place(request), change))


async def delete(request: web.Request) -> web.Response:
    """Delete what stands under a key, for all nodes."""
    return json_answer(await request.app[NODE].state.delete(*_place(request)))


def _place(request: web.Request) -> tuple[str, str]:
    namespace, key = request.match_info["namespace"], request.match_info["key"]
    if not is_name(namespace) or not _KEY.fullmatch(key):
        raise QedgeError("http.not_found", "No such key can exist: letters, digits, `.`, `_` and `-`, at most 96.")
    return namespace, key


ROUTES: Final = (
    Route("GET", "/v1/state", Right.VIEW, listing, answer=StateRows, query=("namespace", "since", "wait_s")),
    Route("GET", "/v1/state/{namespace}/{key}", Right.VIEW, one, answer=StateRows),
    Route("PUT", "/v1/state/{namespace}/{key}", Right.ADMIN, put, body=StatePut, answer=StateRow),
    Route("DELETE", "/v1/state/{namespace}/{key}", Right.ADMIN, delete, answer=StateRow),
)
