"""Routes of the node's place in a fleet; all of them for the operator, at the unix socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import body_of, name_of, number_of
from qedge.web.route import Route
from qedge.wire.trust import (
    BrokerAddress,
    IdentityView,
    JoinAnswer,
    JoinCommand,
    Membership,
    NewIdentity,
    PendingJoins,
    Renewals,
    RevocationNotice,
    SigningRequest,
)

if TYPE_CHECKING:
    from qedge.web.fleet.ports import FleetNode, FleetPort

NODE: Final[web.AppKey[FleetNode]] = web.AppKey("qedge.web.fleet")

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
    name = name_of(request)
    await _fleet(request).renew(name, await body_of(request, Membership))
    return web.Response(status=204)


def _fleet(request: web.Request) -> FleetPort:
    return request.app[NODE].fleet


ROUTES: Final = (
    Route("GET", "/v1/identity", Right.VIEW, identity, answer=IdentityView),
    Route("PUT", "/v1/identity", Right.ADMIN, adopt, body=Membership, answer=IdentityView),
    Route(
        "POST",
        "/v1/identity/requests",
        Right.ADMIN,
        new_identity,
        body=NewIdentity,
        answer=SigningRequest,
        status=201,
    ),
    Route("GET", "/v1/identity/broker", Right.ADMIN, broker, answer=BrokerAddress, query=("this_box",)),
    Route("POST", "/v1/join", Right.ADMIN, join, body=JoinCommand, answer=IdentityView),
    Route("GET", "/v1/joins", Right.ADMIN, pending_joins, answer=PendingJoins, query=("wait_s",)),
    Route("POST", "/v1/joins/{id}", Right.ADMIN, answer_join, body=JoinAnswer, status=204),
    Route("POST", "/v1/revocations", Right.ADMIN, revocations, body=RevocationNotice, status=204),
    Route("GET", "/v1/renewals", Right.ADMIN, renewals, answer=Renewals, query=("due_only",)),
    Route("POST", "/v1/renewals/{name}", Right.ADMIN, renew, body=Membership, status=204),
)
