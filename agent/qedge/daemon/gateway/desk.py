"""Devices for the operator's programs: every privileged act is in the audit log before it is done."""

from __future__ import annotations

from collections.abc import Callable

from qedge.devices.desk import DeviceDesk
from qedge.devices.enrolment.lists import DeviceLists
from qedge.devices.registry.service import DeviceRegistry
from qedge.security.desk import SecurityDesk
from qedge.security.service import SecurityService
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
from qedge_device.enrolling import fingerprint_of

_NAMES_WRITTEN = 20


class AuditedDevices:
    """Fills `web.device_ports.DevicesPort` over the desk of devices and that of security; raises `audit.unavailable`.

    A quarantine is an incident, whoever decides it: peers hear of it, and trust is held down until it ends.
    """

    def __init__(
        self,
        desk: DeviceDesk,
        registry: DeviceRegistry,
        security: SecurityService,
        incidents: SecurityDesk,
        forget: Callable[[str], None],
        lists: DeviceLists,
    ) -> None:
        """`forget` drops what the enforcement point counts of a device."""
        self._lists = lists
        self._forget = forget
        self._desk = desk
        self._registry = registry
        self._security = security
        self._incidents = incidents

    async def listing(self, state: str, after: str, limit: int) -> AttachedDevices:
        """List devices by name."""
        return await self._desk.listing(state, after, limit)

    async def show(self, name: str) -> AttachedDevice:
        """Describe one device."""
        return await self._desk.show(name)

    async def credentials(self, name: str) -> DeviceCredentials:
        """Return what a peer needs to check the device."""
        return await self._desk.credentials(name)

    async def check(self, credentials: DeviceCredentials) -> DeviceChecked:
        """Check a device of another node by what that node says of it."""
        found = await self._lists.check(credentials)
        key = found.public_key
        fingerprint = fingerprint_of(key.library.public_bytes_raw())
        return DeviceChecked(found.node, found.device, fingerprint, key.algorithm)

    async def add(self, wanted: DeviceAdd, caller: str) -> DeviceInvited:
        """Add a device."""
        await self._keep("add", wanted.name, caller)
        return await self._desk.add(wanted)

    async def add_batch(self, batch: DeviceBatch, caller: str) -> DeviceBatchAdded:
        """Add many devices at once."""
        named = ", ".join(each.name for each in batch.devices[:_NAMES_WRITTEN])
        await self._keep(f"add {len(batch.devices)} devices", named, caller)
        return await self._desk.add_batch(batch)

    async def invite(self, wanted: DeviceInvite, caller: str) -> DeviceInvited:
        """Make an invitation."""
        await self._keep("invite", wanted.name, caller)
        return await self._desk.invite(wanted)

    async def approve(self, name: str, approval: DeviceApproval, caller: str) -> AttachedDevice:
        """Let a device in that waits."""
        await self._keep("approve", name, caller)
        return await self._desk.approve(name, approval)

    async def quarantine(self, name: str, why: DeviceReason, caller: str) -> AttachedDevice:
        """Deny everything to a device, here and at all peers."""
        self._desk.check_quarantine(name)
        await self._incidents.quarantine(name, why.reason or "by an operator", caller)
        await self._registry.flush()
        return await self._desk.show(name)

    async def release(self, name: str, caller: str) -> AttachedDevice:
        """Lift a quarantine."""
        self._desk.check_release(name)
        await self._incidents.release(name, "", caller)
        await self._registry.flush()
        return await self._desk.show(name)

    async def revoke(self, name: str, why: DeviceReason, caller: str) -> AttachedDevice:
        """Let a device never come back under its key."""
        await self._keep("revoke", name, caller, why.reason)
        view = await self._desk.revoke(name, why)
        self._forget(name)
        self._security.forget(name)
        return view

    async def rotate(self, wanted: DeviceRotation, caller: str) -> DeviceRotated:
        """Have devices open new sessions."""
        await self._keep("rotate", ", ".join(wanted.names[:_NAMES_WRITTEN]) or "all devices", caller)
        return await self._desk.rotate(wanted)

    async def _keep(self, action: str, device: str, caller: str, reason: str = "") -> None:
        await self._security.audit.keep(subject=device, action=action, actor=caller, rule=reason)
