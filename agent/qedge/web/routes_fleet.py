"""Routes of the node's place in a fleet; all of them for the operator, at the unix socket."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.ids import is_name
from qedge.web.answers import json_answer
from qedge.web.ports import FleetPort
from qedge.web.requests import body_of, number_of
from qedge.web.state import state_of
from qedge.wire.trust import JoinAnswer, JoinCommand, Membership, NewIdentity, RevocationNotice

MAX_WAIT_S: Final = 20.0


async def identity(request: web.Request) -> web.Response:
    """Tell who the node is."""
    return json_answer(_fleet(request).identity())


async def new_identity(request: web.Request) -> web.Response:
    """Make a key and a signing request."""
    return json_answer(await _fleet(request).new_identity(await body_of(request, NewIdentity)), 201)


async def adopt(request: web.Request) -> web.Response:
    """Take a membership."""
    return json_answer(await _fleet(request).adopt(await body_of(request, Membership)))


async def join(request: web.Request) -> web.Response:
    """Join by an invitation."""
    return json_answer(await _fleet(request).join(await body_of(request, JoinCommand)))


async def broker(request: web.Request) -> web.Response:
    """Tell where other boxes meet this one."""
    return json_answer(await _fleet(request).broker(this_box=bool(number_of(request, "this_box", 0, 0, 1))))


async def pending_joins(request: web.Request) -> web.Response:
    """Wait for boxes that want to join."""
    return json_answer(await _fleet(request).pending_joins(number_of(request, "wait_s", 0.0, 0.0, MAX_WAIT_S)))


async def answer_join(request: web.Request) -> web.Response:
    """Answer one of them."""
    await _fleet(request).answer_join(request.match_info["id"][:36], await body_of(request, JoinAnswer))
    return web.Response(status=204)


async def revocations(request: web.Request) -> web.Response:
    """Take the newest list of revoked keys."""
    await _fleet(request).take_revocations((await body_of(request, RevocationNotice)).signed)
    return web.Response(status=204)


async def renewals(request: web.Request) -> web.Response:
    """Collect signing requests for new certificates; `due_only` 1: of those only whose renewal is due."""
    due_only = number_of(request, "due_only", 0, 0, 1) > 0
    return json_answer(await _fleet(request).renewals(due_only=due_only))


async def renew(request: web.Request) -> web.Response:
    """Hand a member its next certificate."""
    name = request.match_info["name"]
    if not is_name(name):
        raise QedgeError("http.not_found", "No such name can exist: letters, digits, _ and -, at most 36.")
    await _fleet(request).renew(name, await body_of(request, Membership))
    return web.Response(status=204)


def _fleet(request: web.Request) -> FleetPort:
    return state_of(request).node.fleet
