"""The open sessions of this node's devices. Pure; nothing in here is ever on disk.

A device has at most two: the newest, and the one before it until the device has spoken in the newest. So a replayed
or lost hello costs nobody a session, and what is under way while keys change still opens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from qedge.devices.model import DeviceSession, DeviceTier
from qedge_device.frame import VERSION, Opener
from qedge_device.short import ShortOpener, first_bytes

GRACE_NS: Final = 60 * 1_000_000_000
_FORGIVE_NS: Final = 3_600 * 1_000_000_000
_PIECE: Final = 500

Prefix = bytes | tuple[bytes, bytes]


class _Sessions:
    """The sessions of one device, each with what its frames begin with."""

    __slots__ = ("newest", "newest_prefix", "older", "older_prefix")

    def __init__(self, newest: DeviceSession, prefix: Prefix) -> None:
        self.newest = newest
        self.newest_prefix = prefix
        self.older: DeviceSession | None = None
        self.older_prefix: Prefix = b""


class DeviceSessions:
    """Sessions by device and by how their frames begin."""

    def __init__(self) -> None:
        self._devices: dict[str, _Sessions] = {}
        self._forgiven_ns = 0
        self.counts = dict.fromkeys(DeviceTier, 0)
        """Devices with a session, by tier, as the last sweep found them."""

    def __len__(self) -> int:
        return len(self._devices)

    def __iter__(self) -> Iterator[DeviceSession]:
        return (each.newest for each in self._devices.values())

    def find(self, device_id: str, frame: bytes) -> DeviceSession | None:
        """Return the session of a device that a frame says it belongs to; what is no frame belongs to none."""
        known = self._devices.get(device_id)
        if known is None:
            return None
        if frame.startswith(known.newest_prefix):
            return known.newest
        if known.older is not None and frame.startswith(known.older_prefix):
            return known.older
        return None

    def current(self, device_id: str) -> DeviceSession | None:
        """Return the session that messages to a device are sealed in: the newest in which it has spoken."""
        known = self._devices.get(device_id)
        if known is None:
            return None
        if known.older is not None and _used(known.older) and not _used(known.newest):
            return known.older
        return known.newest

    def close(self, device_id: str) -> None:
        """Forget the keys of all sessions of a device."""
        self._devices.pop(device_id, None)

    def add(self, session: DeviceSession) -> None:
        """Take a new session; of those before it, the one in which the device spoke last stays for a while."""
        device_id = session.subject.id
        prefix: Prefix = (
            bytes([VERSION]) + session.key_id.to_bytes(4, "big")
            if session.tier is DeviceTier.RICH
            else first_bytes(session.key_id)
        )
        known = self._devices.get(device_id)
        if known is None:
            self._devices[device_id] = _Sessions(session, prefix)
            return
        if known.older is None or _used(known.newest) or not _used(known.older):
            known.older, known.older_prefix = known.newest, known.newest_prefix
        known.newest, known.newest_prefix = session, prefix

    def epochs(self, device_id: str) -> frozenset[int]:
        """Return the key ids of a device's sessions, which a new one must not have."""
        known = self._devices.get(device_id)
        if known is None:
            return frozenset()
        return frozenset(each.key_id for each in (known.newest, known.older) if each is not None)

    def sweep(self, now_ns: int, ended: Callable[[DeviceSession], None]) -> None:
        """Close what has expired and tell `ended` of each; let locked sessions go on after an hour."""
        for _ in self.sweeping(now_ns, ended):
            pass

    def sweeping(self, now_ns: int, ended: Callable[[DeviceSession], None]) -> Iterator[None]:
        """Sweep in pieces of less than a millisecond, between which others have their turn."""
        forgive = now_ns - self._forgiven_ns >= _FORGIVE_NS
        if forgive:
            self._forgiven_ns = now_ns
        counts = dict.fromkeys(DeviceTier, 0)
        for number, device_id in enumerate(list(self._devices), 1):
            if number % _PIECE == 0:
                yield
            known = self._devices.get(device_id)
            if known is None:
                continue
            if forgive:
                _forgive(known)
            older = known.older
            if older is not None and (
                older.expires_ns <= now_ns or (_used(known.newest) and known.newest.opened_ns + GRACE_NS <= now_ns)
            ):
                known.older = None
            if known.newest.expires_ns <= now_ns:
                del self._devices[device_id]
                ended(known.newest)
            else:
                counts[known.newest.tier] += 1
        self.counts = counts


def _used(session: DeviceSession) -> bool:
    opener = session.opener
    return isinstance(opener, (Opener, ShortOpener)) and opener.used


def _forgive(known: _Sessions) -> None:
    for session in (known.newest, known.older):
        if session is not None and isinstance(session.opener, ShortOpener):
            session.opener.forgive()
