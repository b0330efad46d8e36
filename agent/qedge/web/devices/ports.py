"""What the HTTP interface needs from attached devices, for the operator's programs; `devices.desk` fills it."""

from __future__ import annotations

from typing import Protocol

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


class DevicesPort(Protocol):
    """Devices of the node. Methods raise `device.*`."""

    async def listing(self, state: str, after: str, limit: int) -> AttachedDevices:
        """List devices by name, those after `after`; `state` empty: all."""
        ...

    async def show(self, name: str) -> AttachedDevice:
        """Describe one device."""
        ...

    async def add(self, wanted: DeviceAdd, caller: str) -> DeviceInvited:
        """Add a device and return the line for it."""
        ...

    async def add_batch(self, batch: DeviceBatch, caller: str) -> DeviceBatchAdded:
        """Add many devices at once."""
        ...

    async def invite(self, wanted: DeviceInvite, caller: str) -> DeviceInvited:
        """Make an invitation."""
        ...

    async def approve(self, name: str, approval: DeviceApproval, caller: str) -> AttachedDevice:
        """Let a device in that waits."""
        ...

    async def quarantine(self, name: str, why: DeviceReason, caller: str) -> AttachedDevice:
        """Deny everything to a device."""
        ...

    async def release(self, name: str, caller: str) -> AttachedDevice:
        """Lift a quarantine."""
        ...

    async def revoke(self, name: str, why: DeviceReason, caller: str) -> AttachedDevice:
        """Let a device never come back under its key."""
        ...

    async def rotate(self, wanted: DeviceRotation, caller: str) -> DeviceRotated:
        """Have devices open new sessions."""
        ...

    async def credentials(self, name: str) -> DeviceCredentials:
        """Return what a peer needs to check the device."""
        ...

    async def check(self, credentials: DeviceCredentials) -> DeviceChecked:
        """Check a device of another node; raises `auth.*`, `device.stale_revocations`."""
        ...


class DevicesNode(Protocol):
    """The node, as far as this is about it."""

    @property
    def devices(self) -> DevicesPort:
        """Attached devices; raises `device.off` where the node takes none."""
        ...
