"""The nouns of segments: members, what is handed to them, and why an epoch began."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from qedge.security.model import MAX_TRUST, Subject, SubjectKind

_MS: Final = 1_000_000
FOREVER: Final = 2**63 - 1
"""Lease of a subject whose identity is proved anew at every question: an app of this process, an operator."""


OPERATOR: Final = Subject(
    "operator", SubjectKind.APP, groups=frozenset({"operators"}), trust=MAX_TRUST, lease_until_ns=FOREVER
)
"""Who an operator is to policy: an app of the group `operators`. Without a rule it reads and commands nothing."""


class MemberId(NamedTuple):
    """Who reads a segment over the bus."""

    kind: SubjectKind
    id: str


class Cause(StrEnum):
    """Why a segment has a new epoch."""

    START = "start"
    JOINED = "joined"
    LEFT = "left"
    AGE = "age"
    FRAMES = "frames"
    OPERATOR = "operator"


class RetentionClass(StrEnum):
    """What is dropped first where not all readings of a segment can be kept: `bulk`, then `telemetry`."""

    CRITICAL = "critical"
    TELEMETRY = "telemetry"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long leaves and joins are gathered, after what time a generation ends, and whether a join steps on."""

    leave_window_ns: int = 200 * _MS
    join_window_ns: int = 1000 * _MS
    max_age_ns: int = 86_400_000 * _MS
    rekey_on_join: bool = True


@dataclass(frozen=True, slots=True)
class Handover:
    """Secrets on their way to one member: those of `secrets` from epoch `epoch` on."""

    member: MemberId
    epoch: int
    secrets: dict[str, bytes] = field(repr=False)


class Reading(msgspec.Struct, frozen=True, gc=False):
    """A reading as consumers in the node see it; `taken_ns` is on the boot-time clock, `utc_ns` on the wall clock."""

    device: str
    segment: str
    channel: str
    body: bytes
    taken_ns: int
    utc_ns: int


@dataclass(slots=True)
class Reader:
    """A member and what its admission rests on: judged again when its subject's epoch changes or its lease ends.

    `until_ns` 0: as long as policy lets it; otherwise the member has to ask again before then (boot-time clock).
    """

    subject: Subject
    channels: tuple[str, ...]
    seen_epoch: int
    until_ns: int = 0
