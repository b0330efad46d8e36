"""Fills what the rooms of zero trust need from each other and from the rest of the daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.service import Ready
from qedge.devices.enforcement import Enforcement
from qedge.devices.registry.service import DeviceRegistry
from qedge.devices.segments.service import SegmentService
from qedge.devices.service import Devices
from qedge.devices.ways_in.listener import Listener
from qedge.mesh.service import MeshService
from qedge.qkd.keys.ports import Keys
from qedge.security.model import Subject, SubjectKind
from qedge.security.service import SecurityService
from qedge.security.trust.book import name_of
from qedge.wire.mesh import PeerState
from qedge.wire.segments import OnwardReadings

KEY_BITS: Final = 256
DEVICES_SAE: Final = "devices"
"""The consumer at this node in whose name keys for devices are taken; devices name it as the slave of their keys."""


class DeviceSubjects:
    """Fills `security.ports.Subjects` from the registry of devices."""

    def __init__(self, registry: DeviceRegistry) -> None:
        self._registry = registry

    def find(self, device_id: str) -> Subject | None:
        """Return the one record of a device."""
        record = self._registry.get(device_id)
        return record.subject if record is not None else None

    def count(self) -> int:
        """Return how many devices there are."""
        return len(self._registry)


class Downward:
    """Fills `segments.ports.Downlink` from the enforcement point, which is made later."""

    def __init__(self) -> None:
        self.enforcement: Enforcement | None = None

    def down(self, device_id: str, command: str, body: bytes, now_ns: int) -> bool:
        """Seal a message in the device's session and send it."""
        return self.enforcement is not None and self.enforcement.hand(device_id, command, body, now_ns)


class SegmentDoor:
    """A way to the policy administrator: who is cut off loses its place in all segments in the same call."""

    def __init__(self, segments: SegmentService) -> None:
        self._segments = segments

    def send(self, device_id: str, topic: str, payload: bytes) -> bool:
        """Return False: nothing is sent this way."""
        return False

    def cut(self, device_id: str) -> bool:
        """Shut a device out of all segments."""
        self._segments.shut_out(SubjectKind.DEVICE, device_id, "cut off")
        return False


def peer_states(mesh: MeshService) -> dict[str, PeerState]:
    """Return what this node holds of each peer."""
    return {peer.node: peer.state for peer in mesh.peers().peers}


class RevokedPeers:
    """Takes all segments from a peer in the moment in which its key is revoked, not when its subscription ends."""

    def __init__(self, segments: SegmentService, states: Callable[[], Mapping[str, PeerState]]) -> None:
        self._segments = segments
        self._states = states
        self._known: frozenset[str] = frozenset()

    def look(self) -> None:
        """Look who is revoked, after every change among the peers."""
        revoked = frozenset(node for node, state in self._states().items() if state is PeerState.REVOKED)
        for node in revoked - self._known:
            self._segments.shut_out(SubjectKind.PEER, node, "revoked")
        self._known = revoked


class LateGuard:
    """Fills `AddressGuard` from the listener, which is made later."""

    def __init__(self) -> None:
        self.listener: Listener | None = None

    def block(self, address: str, seconds: float) -> None:
        """Take no connection from an address for so long; 0 lifts it."""
        if self.listener is not None:
            self.listener.block(address, seconds)


class StoredDeviceKeys:
    """Fills `devices.ports.DeviceKeys` from the key store: the keys of QKD links, each used once."""

    def __init__(self, node: str, keys: Keys) -> None:
        self._node = node
        self._keys = keys

    async def fresh(self, device_id: str) -> tuple[str, bytes]:
        """Take a key for good; the far end of the link that it came from destroys its bits."""
        try:
            (key,) = await self._keys.reserve(self._node, DEVICES_SAE, [DEVICES_SAE], 1, KEY_BITS)
            await self._keys.collect(DEVICES_SAE, DEVICES_SAE, [key.key_id])
        except QedgeError as error:
            raise _no_key(device_id, error) from error
        return key.key_id, key.key

    async def collect(self, device_id: str, key_id: str) -> bytes:
        """Take the copy of a key that the device, an SAE of its own, had cut for `DEVICES_SAE` at its key manager."""
        try:
            (key,) = await self._keys.collect(DEVICES_SAE, device_id, [key_id])
        except QedgeError as error:
            raise _no_key(device_id, error) from error
        return key.key


def _no_key(device_id: str, error: QedgeError) -> QedgeError:
    return QedgeError(
        "device.no_key",
        f"The key store has no key for {device_id}: {error.message}",
        fix="Look at `qedge keys status`, or let the root be drawn instead.",
    )


class TrustHistory:
    """Fills `devices.desk.History` from the trust book."""

    def __init__(self) -> None:
        self.security: SecurityService | None = None

    def history(self, device_id: str) -> tuple[str, ...]:
        """Return one line for each change, oldest first."""
        if self.security is None:
            return ()
        rows = self.security.trust.why(device_id)
        return tuple(f"{name_of(row.kind)}: {row.before} to {row.after}" for row in rows)


class DeviceRoom:
    """The room of devices as a service."""

    name = "devices"

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    async def run(self, ready: Ready) -> None:
        """Save, sweep and renew until cancelled."""
        ready()
        await self._devices.run()


class NoUplink:
    """Where nothing is configured to go upstream."""

    is_up = False

    async def send(self, readings: OnwardReadings) -> None:
        """Never called: it is never up."""
        raise NotImplementedError


class WatchfulSecurity:
    """The security service, which gives all devices the trust they had as soon as it has read it."""

    name = "security"

    def __init__(self, security: SecurityService, devices: Devices) -> None:
        self._security = security
        self._devices = devices

    async def run(self, ready: Ready) -> None:
        """Watch until cancelled."""

        def opened() -> None:
            for record in self._devices.registry:
                self._security.admit(record.subject)
            self._devices.registry.on_created = self._security.admit
            ready()

        await self._security.run(opened)
