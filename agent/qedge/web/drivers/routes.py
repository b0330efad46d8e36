"""Routes of drivers and QPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import body_of, name_of
from qedge.web.route import Route
from qedge.wire.assessment import Assessment
from qedge.wire.device import DeviceView
from qedge.wire.node import DriverChange, DriverList, DriverView

if TYPE_CHECKING:
    from qedge.web.drivers.ports import DriversPort

NODE: Final[web.AppKey[DriversPort]] = web.AppKey("qedge.web.drivers")


async def drivers(request: web.Request) -> web.Response:
    """List the drivers."""
    return json_answer(DriverList(request.app[NODE].drivers()))


async def change_driver(request: web.Request) -> web.Response:
    """Lock, unlock or reconfigure a driver."""
    change = await body_of(request, DriverChange)
    return json_answer(await request.app[NODE].change_driver(name_of(request), change))


async def assess(request: web.Request) -> web.Response:
    """Measure a QPU now: how wide, how good, how fast; takes some seconds."""
    return json_answer(await request.app[NODE].assess(name_of(request)))


async def device(request: web.Request) -> web.Response:
    """Describe a QPU as it is now: places, operations, couplings, queue."""
    return json_answer(await request.app[NODE].device(name_of(request)))


ROUTES: Final = (
    Route("GET", "/v1/drivers", Right.VIEW, drivers, answer=DriverList),
    Route("PATCH", "/v1/drivers/{name}", Right.ADMIN, change_driver, body=DriverChange, answer=DriverView),
    Route("POST", "/v1/drivers/{name}/assess", Right.MEASURE, assess, answer=Assessment),
    Route("GET", "/v1/drivers/{name}/device", Right.VIEW, device, answer=DeviceView),
)
