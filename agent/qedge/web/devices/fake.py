"""Devices of the node that tests use: views in memory, no keys."""

from __future__ import annotations

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
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
    SignedByNode,
)

LINE = "qedge-device1:fake"


class FakeDevices:
    """A `DevicesPort` whose devices become what they are told to become."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.views: dict[str, AttachedDevice] = {}

    async def listing(self, state: str, after: str, limit: int) -> AttachedDevices:
        """List what was added."""
        found = [self.views[name] for name in sorted(self.views) if state in ("", self.views[name].state)]
        chosen = tuple(view for view in found if view.name > after)[:limit]
        states: dict[str, int] = {}
        for view in self.views.values():
            states[view.state] = states.get(view.state, 0) + 1
        return AttachedDevices(chosen, len(found), states)

    async def show(self, name: str) -> AttachedDevice:
        """Return a view."""
        view = self.views.get(name)
        if view is None:
            raise QedgeError("device.unknown", f"No device is called {name!r}.", fix="See `qedge device list`.")
        return view

    async def add(self, wanted: DeviceAdd, caller: str) -> DeviceInvited:
        """Add a view."""
        if wanted.name in self.views:
            raise QedgeError("device.exists", f"A device is called {wanted.name} already.")
        state = "enrolled" if wanted.tier == "constrained" else "invited"
        now = self._clock.utc_ns()
        self.views[wanted.name] = AttachedDevice(
            wanted.name, wanted.tier, state, wanted.profile, 50, False, created_utc_ns=now, changed_utc_ns=now
        )
        return DeviceInvited(LINE, wanted.name, now + 900_000_000_000)

    async def add_batch(self, batch: DeviceBatch, caller: str) -> DeviceBatchAdded:
        """Add views."""
        known = tuple(each.name for each in batch.devices if each.name in self.views)
        fresh = [each for each in batch.devices if each.name not in known]
        return DeviceBatchAdded(
            tuple([await self.add(DeviceAdd(each.name, each.tier, each.profile), caller) for each in fresh]), known
        )

    async def invite(self, wanted: DeviceInvite, caller: str) -> DeviceInvited:
        """Return a line."""
        if wanted.name:
            await self.show(wanted.name)
        return DeviceInvited(LINE, wanted.name, self._clock.utc_ns() + 900_000_000_000)

    async def approve(self, name: str, approval: DeviceApproval, caller: str) -> AttachedDevice:
        """Make a device enrolled."""
        return await self._become(name, "enrolled", "")

    async def quarantine(self, name: str, why: DeviceReason, caller: str) -> AttachedDevice:
        """Put a device in quarantine."""
        return await self._become(name, "quarantined", why.reason)

    async def release(self, name: str, caller: str) -> AttachedDevice:
        """Make a device enrolled."""
        return await self._become(name, "enrolled", "")

    async def revoke(self, name: str, why: DeviceReason, caller: str) -> AttachedDevice:
        """Revoke a device."""
        return await self._become(name, "revoked", why.reason)

    async def rotate(self, wanted: DeviceRotation, caller: str) -> DeviceRotated:
        """Count devices."""
        return DeviceRotated(len(wanted.names) or len(self.views))

    async def credentials(self, name: str) -> DeviceCredentials:
        """Return what is no certificate."""
        await self.show(name)
        return DeviceCredentials(b"certificate", SignedByNode(b"body", b"signature", (b"leaf",)))

    async def check(self, credentials: DeviceCredentials) -> DeviceChecked:
        """Believe what `credentials` gives."""
        if credentials.certificate != b"certificate":
            raise QedgeError("auth.untrusted", "A device of another node is not believed.")
        return DeviceChecked("box-2", "m-1", "3e0e-0cba", "ml-dsa-44")

    async def _become(self, name: str, state: str, reason: str) -> AttachedDevice:
        view = await self.show(name)
        view = msgspec.structs.replace(view, state=state, quarantined=state == "quarantined", reason=reason)
        self.views[name] = view
        return view
