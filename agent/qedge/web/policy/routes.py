"""Routes of the node's policy; all that change it are for the operator, at the unix socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import body_of
from qedge.web.route import Route
from qedge.wire.policy import PolicyNotice, PolicyView, RecordCommand, RecordedRequests

if TYPE_CHECKING:
    from qedge.web.policy.ports import PolicyNode, PolicyPort

NODE: Final[web.AppKey[PolicyNode]] = web.AppKey("qedge.web.policy")


async def show(request: web.Request) -> web.Response:
    """Describe the policy in force."""
    return json_answer(_policy(request).view())


async def take(request: web.Request) -> web.Response:
    """Take a policy that the fleet's authority signed."""
    return json_answer(await _policy(request).take((await body_of(request, PolicyNotice)).signed))


async def reload(request: web.Request) -> web.Response:
    """Read the file of the policy again."""
    return json_answer(await _policy(request).reload())


async def record(request: web.Request) -> web.Response:
    """Record the next requests that are decided."""
    return json_answer(await _policy(request).record(await body_of(request, RecordCommand)))


def _policy(request: web.Request) -> PolicyPort:
    return request.app[NODE].policy


ROUTES: Final = (
    Route("GET", "/v1/policy", Right.VIEW, show, answer=PolicyView),
    Route("PUT", "/v1/policy", Right.ADMIN, take, body=PolicyNotice, answer=PolicyView),
    Route("POST", "/v1/policy/reload", Right.ADMIN, reload, answer=PolicyView),
    Route(
        "POST",
        "/v1/policy/recordings",
        Right.ADMIN,
        record,
        body=RecordCommand,
        answer=RecordedRequests,
    ),
)
