"""Routes about the node: status, drivers, links, random bytes, ping."""

from __future__ import annotations

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.base.ids import is_name
from qedge.web.answers import json_answer
from qedge.web.requests import body_of
from qedge.web.state import state_of
from qedge.wire.http import LinkList
from qedge.wire.node import DrainChange, DriverChange, DriverList, LinkMeasure, PingRequest, RandomRequest


async def status(request: web.Request) -> web.Response:
    """Describe the node."""
    return json_answer(state_of(request).node.status())


async def drivers(request: web.Request) -> web.Response:
    """List the drivers."""
    return json_answer(DriverList(state_of(request).node.drivers()))


async def change_driver(request: web.Request) -> web.Response:
    """Lock, unlock or reconfigure a driver."""
    change = await body_of(request, DriverChange)
    return json_answer(await state_of(request).node.change_driver(_name(request), change))


async def assess(request: web.Request) -> web.Response:
    """Measure a QPU now: how wide, how good, how fast; takes some seconds."""
    return json_answer(await state_of(request).node.assess(_name(request)))


async def device(request: web.Request) -> web.Response:
    """Describe a QPU as it is now: places, operations, couplings, queue."""
    return json_answer(await state_of(request).node.device(_name(request)))


async def links(request: web.Request) -> web.Response:
    """List the QKD links."""
    return json_answer(LinkList(state_of(request).node.links()))


async def measure_link(request: web.Request) -> web.Response:
    """Take one window on a link."""
    measure = await body_of(request, LinkMeasure)
    return json_answer(await state_of(request).node.measure_link(_name(request), measure))


async def random(request: web.Request) -> web.Response:
    """Draw random bytes."""
    return json_answer(await state_of(request).node.random(await body_of(request, RandomRequest)))


async def telemetry(request: web.Request) -> web.Response:
    """Answer with how telemetry stands."""
    return json_answer(state_of(request).node.telemetry())


async def drain_view(request: web.Request) -> web.Response:
    """Tell whether the node takes jobs."""
    return json_answer(state_of(request).node.drain_view())


async def drain(request: web.Request) -> web.Response:
    """Give the jobs of the node away and take no new ones, or undo that."""
    return json_answer(await state_of(request).node.drain(await body_of(request, DrainChange)))


async def peers(request: web.Request) -> web.Response:
    """List the members of the fleet."""
    return json_answer(state_of(request).node.peers())


async def ping(request: web.Request) -> web.Response:
    """Measure the way to a peer."""
    return json_answer(await state_of(request).node.ping(await body_of(request, PingRequest)))


def _name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not is_name(name):
        raise QedgeError("http.not_found", "No such name can exist: letters, digits, _ and -, at most 36.")
    return name
