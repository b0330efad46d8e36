"""The nouns of the gateway: a device in its life, and its session."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from qedge.base.machine import StateTable
from qedge.security.model import Resource, Subject
from qedge.security.tally import Tally

GUEST_MARK: Final = "_"
"""First character of the names of guests, who hold an invitation; no device has such a name."""


class DeviceState(StrEnum):
    """The life of a device at its node."""

    INVITED = "invited"
    PENDING = "pending"
    ENROLLED = "enrolled"
    QUARANTINED = "quarantined"
    REVOKED = "revoked"


class DeviceEvent(StrEnum):
    """What happens to a device."""

    ASKED = "asked"
    APPROVED = "approved"
    QUARANTINED = "quarantined"
    RELEASED = "released"
    REVOKED = "revoked"


DEVICE_STATES: Final = StateTable(
    "device",
    DeviceState.INVITED,
    frozenset({DeviceState.REVOKED}),
    {
        (DeviceState.INVITED, DeviceEvent.ASKED): DeviceState.PENDING,
        (DeviceState.INVITED, DeviceEvent.APPROVED): DeviceState.ENROLLED,
        (DeviceState.PENDING, DeviceEvent.APPROVED): DeviceState.ENROLLED,
        (DeviceState.ENROLLED, DeviceEvent.QUARANTINED): DeviceState.QUARANTINED,
        (DeviceState.QUARANTINED, DeviceEvent.RELEASED): DeviceState.ENROLLED,
        **{
            (state, DeviceEvent.REVOKED): DeviceState.REVOKED
            for state in (DeviceState.INVITED, DeviceState.PENDING, DeviceState.ENROLLED, DeviceState.QUARANTINED)
        },
    },
)


class DeviceTier(StrEnum):
    """How a device makes its sessions: with post-quantum keys of its own, or from a symmetric root."""

    RICH = "rich"
    CONSTRAINED = "constrained"


class OpenEnrolment(StrEnum):
    """Who may ask to be enrolled without an invitation."""

    NOBODY = "nobody"
    MANUFACTURERS = "manufacturers"
    ANYBODY = "anybody"


class Sealing(Protocol):
    """The sending half of a session."""

    def seal(self, payload: bytes, topic: str) -> bytes:
        """Seal a message for a topic; raises `FrameError`."""
        ...


class Opening(Protocol):
    """The receiving half of a session."""

    def open(self, frame: bytes, topic: str) -> bytes:
        """Open a frame of a topic; raises `FrameError` and changes nothing where it is not good."""
        ...


@dataclass(slots=True)
class DeviceSession:
    """A session with a device; times on the boot-time clock. `up_topic` is bound into every frame from the device.

    `tally` and `said` are the enforcement point's own: the device's count, and the head of the reading that came last
    with its channel and what policy is asked about it. With ten thousand devices each look into a table costs more
    than all arithmetic, since nothing of a device is in the processor's cache when its next message comes.
    """

    subject: Subject
    tier: DeviceTier
    key_id: int
    opener: Opening
    sealer: Sealing
    up_topic: str
    down_topic: str
    opened_ns: int
    expires_ns: int
    tally: Tally | None = None
    said: tuple[bytes, str, Resource] | None = None
