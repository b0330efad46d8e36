"""Routes about keys and the applications that get them; unix socket only, for they hand out secrets."""

from __future__ import annotations

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.ids import is_name
from qedge.web.answers import json_answer
from qedge.web.requests import body_of
from qedge.web.state import state_of
from qedge.wire.delivery import KeyCollect, KeyTake, SaeChange, SaePermit, SaeRequest


async def overview(request: web.Request) -> web.Response:
    """Tell what applications could have now."""
    return json_answer(await state_of(request).node.keys.overview())


async def take(request: web.Request) -> web.Response:
    """Take fresh keys as an application of this node; they leave and do not come again."""
    return json_answer(await state_of(request).node.keys.take(await body_of(request, KeyTake)))


async def collect(request: web.Request) -> web.Response:
    """Collect, as an application of this node, keys that another took."""
    return json_answer(await state_of(request).node.keys.collect(await body_of(request, KeyCollect)))


async def saes(request: web.Request) -> web.Response:
    """List the applications."""
    return json_answer(await state_of(request).node.keys.saes())


async def put_sae(request: web.Request) -> web.Response:
    """Add an application, or change one that was added."""
    change = await body_of(request, SaeChange)
    return json_answer(await state_of(request).node.keys.put_sae(_name(request), change))


async def remove_sae(request: web.Request) -> web.Response:
    """Remove an application that was added, and revoke its certificates."""
    return json_answer(await state_of(request).node.keys.remove_sae(_name(request)))


async def permit(request: web.Request) -> web.Response:
    """Let an application ask keys with others, or no more."""
    wanted = await body_of(request, SaePermit)
    return json_answer(await state_of(request).node.keys.permit(_name(request), wanted))


async def certify(request: web.Request) -> web.Response:
    """Make a certificate for an application of this node."""
    wanted = await body_of(request, SaeRequest)
    return json_answer(await state_of(request).node.keys.certify(_name(request), wanted.request))


async def revoke(request: web.Request) -> web.Response:
    """Revoke all certificates of an application that this node made."""
    return json_answer(await state_of(request).node.keys.revoke(_name(request)))


def _name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not is_name(name):
        raise QedgeError("http.not_found", "No such name can exist: letters, digits, _ and -, at most 36.")
    return name
