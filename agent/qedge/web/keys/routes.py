"""Routes about keys and the applications that get them; unix socket only, for they hand out secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import body_of, name_of
from qedge.web.route import Route
from qedge.wire.delivery import (
    HandedKeys,
    KeyCollect,
    KeyOverview,
    KeyTake,
    SaeCertificate,
    SaeChange,
    SaeList,
    SaePermit,
    SaeRequest,
    SaeRevoked,
    SaeView,
)

if TYPE_CHECKING:
    from qedge.web.keys.ports import KeysNode

NODE: Final[web.AppKey[KeysNode]] = web.AppKey("qedge.web.keys")


async def overview(request: web.Request) -> web.Response:
    """Tell what applications could have now."""
    return json_answer(await request.app[NODE].keys.overview())


async def take(request: web.Request) -> web.Response:
    """Take fresh keys as an application of this node; they leave and do not come again."""
    return json_answer(await request.app[NODE].keys.take(await body_of(request, KeyTake)))


async def collect(request: web.Request) -> web.Response:
    """Collect, as an application of this node, keys that another took."""
    return json_answer(await request.app[NODE].keys.collect(await body_of(request, KeyCollect)))


async def saes(request: web.Request) -> web.Response:
    """List the applications."""
    return json_answer(await request.app[NODE].keys.saes())


async def put_sae(request: web.Request) -> web.Response:
    """Add an application, or change one that was added."""
    change = await body_of(request, SaeChange)
    return json_answer(await request.app[NODE].keys.put_sae(name_of(request), change))


async def remove_sae(request: web.Request) -> web.Response:
    """Remove an application that was added, and revoke its certificates."""
    return json_answer(await request.app[NODE].keys.remove_sae(name_of(request)))


async def permit(request: web.Request) -> web.Response:
    """Let an application ask keys with others, or no more."""
    wanted = await body_of(request, SaePermit)
    return json_answer(await request.app[NODE].keys.permit(name_of(request), wanted))


async def certify(request: web.Request) -> web.Response:
    """Make a certificate for an application of this node."""
    wanted = await body_of(request, SaeRequest)
    return json_answer(await request.app[NODE].keys.certify(name_of(request), wanted.request))


async def revoke(request: web.Request) -> web.Response:
    """Revoke all certificates of an application that this node made."""
    return json_answer(await request.app[NODE].keys.revoke(name_of(request)))


ROUTES: Final = (
    Route("GET", "/v1/keys", Right.VIEW, overview, answer=KeyOverview),
    Route("POST", "/v1/keys", Right.KEYS, take, body=KeyTake, answer=HandedKeys),
    Route("POST", "/v1/keys/collect", Right.KEYS, collect, body=KeyCollect, answer=HandedKeys),
    Route("GET", "/v1/saes", Right.VIEW, saes, answer=SaeList),
    Route("PUT", "/v1/saes/{name}", Right.KEYS, put_sae, body=SaeChange, answer=SaeView),
    Route("DELETE", "/v1/saes/{name}", Right.KEYS, remove_sae, answer=SaeRevoked),
    Route("POST", "/v1/saes/{name}/permit", Right.KEYS, permit, body=SaePermit, answer=SaeView),
    Route("POST", "/v1/saes/{name}/certificates", Right.KEYS, certify, body=SaeRequest, answer=SaeCertificate),
    Route("DELETE", "/v1/saes/{name}/certificates", Right.KEYS, revoke, answer=SaeRevoked),
)
