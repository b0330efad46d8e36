"""CONNECT: who a client is, before anything else of it is read.

User name: the device; password: a MAC over node, client id and a counter that only grows, under a secret that node and
device have. A password is good once. Guests, who may only say hello, prove their invitation the same way.
"""

from __future__ import annotations

from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.devices.enrolment.service import Enrolment
from qedge.devices.model import GUEST_MARK
from qedge.devices.registry.model import NO_ATTRIBUTES
from qedge.devices.registry.service import DeviceRegistry
from qedge.devices.sessions.places import Place
from qedge.security.model import Subject, SubjectKind
from qedge_device import schedule

CONNECT_LEASE_NS: Final = 120 * 1_000_000_000
"""Time that a device has after CONNECT to open a session."""

MAX_CLIENT_ID: Final = 256
_NOBODY: Final = bytes(32)


class DeviceDoorman:
    """Knows devices and invitations by the registry; None for everybody else, whatever is wrong."""

    def __init__(self, place: Place, *, registry: DeviceRegistry, enrolment: Enrolment, clock: Clock) -> None:
        self._place = place
        self._registry = registry
        self._enrolment = enrolment
        self._clock = clock
        self._guest_counters: dict[str, int] = {}

    async def check(self, client_id: str, username: str, password: bytes) -> Subject | None:
        """Return who that is, or None. A guest that may only enrol is a subject with the id of its invitation.

        Raises `device.refused` for a proof that is good but was used, or whose successor was: when ten thousand devices
        come back at once, some lose patience, and what they sent first is read after what they sent last.
        """
        if len(client_id) > MAX_CLIENT_ID:
            return None
        if username.startswith(GUEST_MARK):
            return self._guest(client_id, username, password)
        record = self._registry.get(username)
        known = record is not None and record.is_known
        secret = record.secret if record is not None and known else _NOBODY
        counter = self._proved(username, client_id, password, secret)
        # A name that nobody has costs the same MAC, so that time does not tell which names there are.
        if record is None or not known or not counter:
            return None
        if counter <= record.counter:
            raise QedgeError("device.refused", f"{username} proves again what it has proved.")
        record.counter = counter
        self._registry.touch(record)
        subject = record.subject
        subject.lease_until_ns = max(subject.lease_until_ns, self._clock.now_ns() + CONNECT_LEASE_NS)
        return subject

    def _guest(self, client_id: str, username: str, password: bytes) -> Subject | None:
        invitation = self._registry.invitation(username)
        if invitation is None:
            return self._subject(username) if self._enrolment.is_open_to(username) else None
        counter = self._proved(username, client_id, password, invitation.token)
        if counter <= self._guest_counters.get(username, 0):
            return None
        if invitation.uses == 1 and not invitation.approval:
            self._note(username, counter)
        return self._subject(username)

    def _note(self, username: str, counter: int) -> None:
        """Remember the counter of an invitation that one device has; others count each for itself."""
        if len(self._guest_counters) > 10_000:
            self._guest_counters = {
                name: each for name, each in self._guest_counters.items() if self._registry.invitation(name) is not None
            }
        self._guest_counters[username] = counter

    def _subject(self, username: str) -> Subject:
        lease = self._clock.now_ns() + CONNECT_LEASE_NS
        return Subject(username, SubjectKind.DEVICE, attributes=NO_ATTRIBUTES, lease_until_ns=lease)

    def _proved(self, username: str, client_id: str, password: bytes, secret: bytes) -> int:
        """Return the counter of a password that is good, else 0."""
        try:
            counter, counted, proof = schedule.read_connect_password(password)
            name = self._place.who(username)
        except (ValueError, UnicodeEncodeError):
            return 0
        return counter if schedule.check_connect(secret, name, client_id, counted, proof) else 0
