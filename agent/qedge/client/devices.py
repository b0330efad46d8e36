"""Attached devices, as methods of a node's client."""

from __future__ import annotations

from urllib.parse import quote

from qedge.client.fleet import Transport
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


class DevicesClient:
    """Adding, inviting, approving, containing and revoking devices; every method raises `QedgeError`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def listing(self, state: str = "", after: str = "", limit: int = 100) -> AttachedDevices:
        """List up to 1000 devices by name, those after `after`; `state` empty: all."""
        path = f"/v1/devices?limit={limit}&state={quote(state, safe='')}&after={quote(after, safe='')}"
        return await self._transport.ask("GET", path, AttachedDevices)

    async def show(self, name: str) -> AttachedDevice:
        """Describe one device."""
        return await self._transport.ask("GET", _path(name), AttachedDevice)

    async def add(self, wanted: DeviceAdd) -> DeviceInvited:
        """Add a device and return the line for it."""
        return await self._transport.ask("POST", "/v1/devices", DeviceInvited, body=wanted)

    async def add_batch(self, batch: DeviceBatch) -> DeviceBatchAdded:
        """Add up to 500 devices at once."""
        return await self._transport.ask("POST", "/v1/devices/batch", DeviceBatchAdded, body=batch)

    async def invite(self, wanted: DeviceInvite) -> DeviceInvited:
        """Make an invitation for devices that choose their names, or for a new key of one that is known."""
        return await self._transport.ask("POST", "/v1/devices/invitations", DeviceInvited, body=wanted)

    async def approve(self, name: str, approval: DeviceApproval) -> AttachedDevice:
        """Let a device in that waits."""
        return await self._transport.ask("POST", _path(name, "/approve"), AttachedDevice, body=approval)

    async def quarantine(self, name: str, reason: str) -> AttachedDevice:
        """Deny everything to a device."""
        return await self._transport.ask("POST", _path(name, "/quarantine"), AttachedDevice, body=DeviceReason(reason))

    async def release(self, name: str) -> AttachedDevice:
        """Lift a quarantine."""
        return await self._transport.ask("POST", _path(name, "/release"), AttachedDevice)

    async def revoke(self, name: str, reason: str) -> AttachedDevice:
        """Let a device never come back under its key."""
        return await self._transport.ask("POST", _path(name, "/revoke"), AttachedDevice, body=DeviceReason(reason))

    async def rotate(self, names: tuple[str, ...] = ()) -> DeviceRotated:
        """Have devices open new sessions; all of them where none is named."""
        return await self._transport.ask("POST", "/v1/devices/rotate", DeviceRotated, body=DeviceRotation(names))

    async def credentials(self, name: str) -> DeviceCredentials:
        """Return certificate and delegation of a device."""
        return await self._transport.ask("GET", _path(name, "/credentials"), DeviceCredentials)

    async def check(self, credentials: DeviceCredentials) -> DeviceChecked:
        """Have the node check a device of another node by its `credentials`; raises where they are not good now."""
        return await self._transport.ask("POST", "/v1/devices/check", DeviceChecked, body=credentials)


def _path(name: str, rest: str = "") -> str:
    return f"/v1/devices/{quote(name, safe='')}{rest}"
