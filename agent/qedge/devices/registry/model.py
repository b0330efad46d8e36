"""The record of a device and of an invitation, as the node keeps them in memory.

20,000 of them are in memory at once, so what is large and seldom wanted (public key, certificate) stays in the
database, and what many devices have alike (class, groups, attributes, …) is one object for all of them.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from qedge.devices.model import DEVICE_STATES, DeviceEvent, DeviceState, DeviceTier
from qedge.security.model import Subject, SubjectKind
from qedge.wire.gateway import DeviceProfile

NO_ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(slots=True, eq=False)
class DeviceRecord:
    """What the node holds of a device. Secrets are in here: it is never written to a log.

    `secret` is the root of a constrained device, and what proves CONNECT of a rich one; `resumption` the secret of its
    last full session, good until `resume_until_utc_ns`. `counter` is the highest one that CONNECT, RESUME or JOIN used.
    `proved_ns` is when the newest nonce was issued that the device signed, in this run of the node. `key_id` is that of
    the key, or of the root of a constrained device. `barred`: the other node that has revoked it, empty where none has.
    """

    subject: Subject
    tier: DeviceTier
    state: DeviceState
    parameter: int = 0
    key_id: bytes = b""
    secret: bytes = b""
    resumption: bytes = b""
    resume_until_utc_ns: int = 0
    certified_until_utc_ns: int = 0
    counter: int = 0
    proved_ns: int = -1
    extra_id: str = ""
    extra: bytes = b""
    from_keys: bool = False
    reason: str = ""
    barred: str = ""

    def __repr__(self) -> str:
        return f"<device {self.subject.id} {self.state}>"

    def go(self, event: DeviceEvent) -> None:
        """Take one step of the state table; raises `IllegalTransitionError`. The subject follows."""
        self.state = DEVICE_STATES.next(self.state, event)
        self._mark()

    def bar(self, node: str) -> None:
        """Note which other node has revoked the key; empty: none has any more. The subject follows."""
        self.barred = node
        self._mark()

    def _mark(self) -> None:
        subject = self.subject
        subject.quarantined = self.state is DeviceState.QUARANTINED
        subject.revoked = self.state is DeviceState.REVOKED or bool(self.barred)
        subject.epoch += 1

    @property
    def is_admitted(self) -> bool:
        """Say whether the device may have sessions now."""
        return self.state is DeviceState.ENROLLED and not self.barred

    @property
    def is_known(self) -> bool:
        """Say whether the device proves who it is at CONNECT; of one in quarantine policy denies all it asks for."""
        return self.state in (DeviceState.ENROLLED, DeviceState.QUARANTINED) and bool(self.secret) and not self.barred


@dataclass(slots=True, eq=False)
class InvitationRecord:
    """An invitation. `device` empty: whoever has it chooses a name. `uses` are left."""

    id: str
    token: bytes
    device: str
    approval: bool
    uses: int
    expires_utc_ns: int
    profile: DeviceProfile

    def __repr__(self) -> str:
        return f"<invitation {self.id}>"


def root_id(root: bytes) -> bytes:
    """Return the 16 bytes by which lists of revoked devices name a root; they say nothing of it."""
    return hashlib.sha3_256(b"qedge/v1 device root\0" + root).digest()[:16]


class Sharing:
    """Hands out one object for equal sets and mappings, so that 20,000 devices of one kind share them."""

    def __init__(self) -> None:
        self._groups: dict[frozenset[str], frozenset[str]] = {}
        self._attributes: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {(): NO_ATTRIBUTES}

    def set_of(self, names: tuple[str, ...]) -> frozenset[str]:
        """Return the set of these names."""
        found = frozenset(map(sys.intern, names))
        return self._groups.setdefault(found, found)

    def mapping_of(self, values: Mapping[str, str]) -> Mapping[str, str]:
        """Return a mapping that nobody changes."""
        key = tuple(sorted(values.items()))
        found = self._attributes.get(key)
        if found is None:
            found = self._attributes[key] = MappingProxyType(dict(key))
        return found

    def apply(self, subject: Subject, profile: DeviceProfile) -> None:
        """Make a subject what its profile says."""
        subject.device_class = sys.intern(profile.device_class)
        subject.segment = sys.intern(profile.segment)
        subject.location = sys.intern(profile.location)
        subject.groups = self.set_of(profile.groups)
        subject.posture = self.set_of(profile.posture)
        subject.attributes = self.mapping_of(profile.attributes)
        subject.safety = profile.safety
        subject.epoch += 1


def profile_of(subject: Subject) -> DeviceProfile:
    """Return the profile of a subject."""
    return DeviceProfile(
        device_class=subject.device_class,
        segment=subject.segment,
        location=subject.location,
        groups=tuple(sorted(subject.groups)),
        attributes=dict(subject.attributes),
        posture=tuple(sorted(subject.posture)),
        safety=subject.safety,
    )


def new_subject(device_id: str) -> Subject:
    """Return the subject of a device of which nothing is known yet."""
    return Subject(id=device_id, kind=SubjectKind.DEVICE, attributes=NO_ATTRIBUTES)
