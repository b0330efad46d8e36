"""The policy administrator of SP 800-207: opens nothing, closes at once.

What is decided counts in memory before the call returns: the next frame of the device finds no session, or a subject
that policy denies. Connections are cut in the same call; the database follows (`registry`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from qedge.base.log import get_logger
from qedge.devices.model import DEVICE_STATES, DeviceEvent
from qedge.devices.ports import SessionBook, Way
from qedge.devices.registry.model import DeviceRecord
from qedge.devices.registry.service import DeviceRegistry
from qedge.devices.sessions.places import Place
from qedge_device.messages import Refusal, Refused

_LOG: Final = get_logger("devices")
_START_ANEW: Final = Refused(Refusal.START_ANEW).pack()


class Limiter(Protocol):
    """Holds back what a device sends too fast; the enforcement point is one."""

    def limit(self, device_id: str, messages_per_s: float) -> None:
        """Let so many messages a second pass; 0 lifts it."""
        ...


class Administrator:
    """Carries out decisions about devices over registry, sessions and ways; `Containment` of the security room."""

    def __init__(
        self,
        place: Place,
        *,
        registry: DeviceRegistry,
        sessions: SessionBook,
        ways: Sequence[Way] = (),
        limiter: Limiter | None = None,
    ) -> None:
        self._place = place
        self._registry = registry
        self._sessions = sessions
        self._ways = list(ways)
        self._limiter = limiter
        self._limits: dict[str, float] = {}

    def add_way(self, way: Way) -> None:
        """Take a way that came up later."""
        self._ways.append(way)

    def set_limiter(self, limiter: Limiter) -> None:
        """Take who holds back; it hears of limits that were set before."""
        self._limiter = limiter
        for device_id, messages_per_s in self._limits.items():
            limiter.limit(device_id, messages_per_s)

    @property
    def limits(self) -> dict[str, float]:
        """Return the limits that stand, in messages a second."""
        return dict(self._limits)

    def quarantine(self, device_id: str, reason: str) -> None:
        """Deny everything from now on and close the session; nothing where that is not possible."""
        record = self._registry.get(device_id)
        if record is not None and self._step(record, DeviceEvent.QUARANTINED, reason):
            self._shut(device_id)
            _LOG.warning("device.quarantined", device=device_id, reason=reason)

    def release(self, device_id: str) -> None:
        """Lift a quarantine; nothing where there is none."""
        record = self._registry.get(device_id)
        if record is not None and self._step(record, DeviceEvent.RELEASED, ""):
            _LOG.info("device.released", device=device_id)

    def cut_off(self, device_id: str, reason: str) -> None:
        """Close the session and the connection; the device may come back and has to prove its key again."""
        record = self._registry.get(device_id)
        if record is None:
            return
        self._forget(record)
        self._shut(device_id)
        _LOG.info("device.cut_off", device=device_id, reason=reason)

    def throttle(self, device_id: str, messages_per_s: float) -> None:
        """Take so many messages a second from the device and no more; 0 lifts it."""
        if self._registry.get(device_id) is None:
            return
        if messages_per_s > 0:
            self._limits[device_id] = messages_per_s
        else:
            self._limits.pop(device_id, None)
        if self._limiter is not None:
            self._limiter.limit(device_id, max(0.0, messages_per_s))

    def rekey(self, device_id: str) -> None:
        """Ask for a new session before anything else is taken; a rich device has to prove its key for it."""
        record = self._registry.get(device_id)
        if record is None:
            return
        self._forget(record)
        topic = self._place.welcome(device_id)
        any(way.send(device_id, topic, _START_ANEW) for way in self._ways)

    def revoked(self, record: DeviceRecord) -> None:
        """Close all that a device has whose keys count no more."""
        self._forget(record)
        self._limits.pop(record.subject.id, None)
        self._shut(record.subject.id)

    def bar(self, record: DeviceRecord, node: str) -> None:
        """Shut out a device whose key another node has revoked; with an empty name none has any more."""
        record.bar(node)
        if node:
            self._forget(record)
            self._shut(record.subject.id)
            _LOG.warning("device.barred", device=record.subject.id, peer=node)
        else:
            _LOG.info("device.unbarred", device=record.subject.id)

    def replaced(self, record: DeviceRecord) -> None:
        """Close all that a device has opened with a key that it replaces."""
        self._forget(record)
        self._shut(record.subject.id)

    def _step(self, record: DeviceRecord, event: DeviceEvent, reason: str) -> bool:
        if not DEVICE_STATES.allows(record.state, event):
            return False
        self._registry.go(record, event, reason)
        return True

    def _forget(self, record: DeviceRecord) -> None:
        """Let no session of a device stand, nor be resumed."""
        record.resumption = b""
        record.resume_until_utc_ns = 0
        record.subject.lease_until_ns = 0
        self._sessions.close(record.subject.id)
        self._registry.touch(record)

    def _shut(self, device_id: str) -> None:
        self._sessions.close(device_id)
        for way in self._ways:
            way.cut(device_id)
