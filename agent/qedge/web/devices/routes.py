"""Routes of attached devices; what changes something, and the lines that invite, at the unix socket alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from qedge.base.errors import QedgeError
from qedge.devices.model import DeviceState
from qedge.web.access import Right
from qedge.web.answers import json_answer
from qedge.web.requests import body_of, caller_of, name_of, number_of
from qedge.web.route import Route
from qedge.wire.gateway import (
    AttachedDevice,
    AttachedDevices,
    DeviceAdd,
    DeviceApproval,
    DeviceBatch,
    DeviceBatchAdded,
    DeviceChecked,
    DeviceCredentials,
    DeviceInvite,
    DeviceInvited,
    DeviceReason,
    DeviceRotated,
    DeviceRotation,
)

if TYPE_CHECKING:
    from qedge.web.devices.ports import DevicesNode, DevicesPort

NODE: Final[web.AppKey[DevicesNode]] = web.AppKey("qedge.web.devices")

_MAX_LIST: Final = 1000


async def listing(request: web.Request) -> web.Response:
    """List devices."""
    state, after = request.query.get("state", ""), request.query.get("after", "")
    if state and state not in set(DeviceState):
        raise QedgeError("http.bad_request", "No device is in such a state.", fix=f"One of {', '.join(DeviceState)}.")
    limit = int(number_of(request, "limit", 100, 1, _MAX_LIST))
    return json_answer(await _devices(request).listing(state, after[:36], limit))


async def show(request: web.Request) -> web.Response:
    """Describe one device."""
    return json_answer(await _devices(request).show(name_of(request)))


async def add(request: web.Request) -> web.Response:
    """Add a device."""
    return json_answer(await _devices(request).add(await body_of(request, DeviceAdd), _caller(request)), 201)


async def add_batch(request: web.Request) -> web.Response:
    """Add many devices."""
    return json_answer(await _devices(request).add_batch(await body_of(request, DeviceBatch), _caller(request)), 201)


async def invite(request: web.Request) -> web.Response:
    """Make an invitation."""
    return json_answer(await _devices(request).invite(await body_of(request, DeviceInvite), _caller(request)), 201)


async def approve(request: web.Request) -> web.Response:
    """Let a device in that waits."""
    return json_answer(
        await _devices(request).approve(name_of(request), await body_of(request, DeviceApproval), _caller(request))
    )


async def quarantine(request: web.Request) -> web.Response:
    """Deny everything to a device."""
    return json_answer(
        await _devices(request).quarantine(name_of(request), await body_of(request, DeviceReason), _caller(request))
    )


async def release(request: web.Request) -> web.Response:
    """Lift a quarantine."""
    return json_answer(await _devices(request).release(name_of(request), _caller(request)))


async def revoke(request: web.Request) -> web.Response:
    """Let a device never come back under its key."""
    return json_answer(
        await _devices(request).revoke(name_of(request), await body_of(request, DeviceReason), _caller(request))
    )


async def rotate(request: web.Request) -> web.Response:
    """Have devices open new sessions."""
    return json_answer(await _devices(request).rotate(await body_of(request, DeviceRotation), _caller(request)))


async def credentials(request: web.Request) -> web.Response:
    """Return certificate and delegation of a device."""
    return json_answer(await _devices(request).credentials(name_of(request)))


async def check(request: web.Request) -> web.Response:
    """Check a device of another node by its credentials."""
    return json_answer(await _devices(request).check(await body_of(request, DeviceCredentials)))


def _devices(request: web.Request) -> DevicesPort:
    return request.app[NODE].devices


def _caller(request: web.Request) -> str:
    return caller_of(request).label


ROUTES: Final = (
    Route("GET", "/v1/devices", Right.VIEW, listing, answer=AttachedDevices, query=("limit",)),
    Route("POST", "/v1/devices", Right.ADMIN, add, body=DeviceAdd, answer=DeviceInvited, status=201),
    Route("POST", "/v1/devices/batch", Right.ADMIN, add_batch, body=DeviceBatch, answer=DeviceBatchAdded, status=201),
    Route("POST", "/v1/devices/invitations", Right.ADMIN, invite, body=DeviceInvite, answer=DeviceInvited, status=201),
    Route("POST", "/v1/devices/rotate", Right.ADMIN, rotate, body=DeviceRotation, answer=DeviceRotated),
    Route("POST", "/v1/devices/check", Right.VIEW, check, body=DeviceCredentials, answer=DeviceChecked),
    Route("GET", "/v1/devices/{name}", Right.VIEW, show, answer=AttachedDevice),
    Route("GET", "/v1/devices/{name}/credentials", Right.ADMIN, credentials, answer=DeviceCredentials),
    Route("POST", "/v1/devices/{name}/approve", Right.ADMIN, approve, body=DeviceApproval, answer=AttachedDevice),
    Route("POST", "/v1/devices/{name}/quarantine", Right.ADMIN, quarantine, body=DeviceReason, answer=AttachedDevice),
    Route("POST", "/v1/devices/{name}/release", Right.ADMIN, release, answer=AttachedDevice),
    Route("POST", "/v1/devices/{name}/revoke", Right.ADMIN, revoke, body=DeviceReason, answer=AttachedDevice),
)
"""The rows of the route table; the names `batch`, `check`, `invitations` and `rotate` are no devices."""
