"""The nouns of zero trust: who asks, for what, and what was decided (roles of NIST SP 800-207, §3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

MAX_TRUST: Final = 100


class SubjectKind(StrEnum):
    """What kind of thing asks."""

    DEVICE = "device"
    APP = "app"
    PEER = "peer"
    CLOUD = "cloud"


class Action(StrEnum):
    """What a subject wants to do with a resource."""

    CONNECT = "connect"
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    COMMAND = "command"


class ResourceKind(StrEnum):
    """What a subject wants to reach."""

    NODE = "node"
    SEGMENT = "segment"
    DEVICE = "device"
    APP = "app"


class Reason(StrEnum):
    """Why it was decided so. The first that applies counts, in this order; `ALLOWED` is the only one that permits."""

    ALLOWED = "allowed"
    UNKNOWN = "unknown"
    REVOKED = "revoked"
    QUARANTINED = "quarantined"
    LEASE = "lease"
    FORBIDDEN = "forbidden"
    NO_RULE = "no_rule"
    SEGMENT = "segment"
    TRUST = "trust"
    TIME = "time"
    LOCATION = "location"
    POSTURE = "posture"
    QKD = "qkd"
    RATE = "rate"


@dataclass(slots=True)
class Subject:
    """What policy knows of who asks; for a device the one record of it in the node's memory.

    `epoch` grows with every change of anything else in here but `lease_until_ns`, so that a decision can be kept as
    long as it stands. `lease_until_ns` is on the boot-time clock: until then the identity was checked.
    """

    id: str
    kind: SubjectKind
    device_class: str = ""
    groups: frozenset[str] = frozenset()
    attributes: Mapping[str, str] = field(default_factory=dict)
    segment: str = ""
    location: str = ""
    posture: frozenset[str] = frozenset()
    trust: int = 50
    quarantined: bool = False
    revoked: bool = False
    safety: bool = False
    qkd_backed: bool = False
    lease_until_ns: int = 0
    epoch: int = 0
    settled: object = field(default=None, init=False, repr=False, compare=False)
    """What a judge has settled about the subject as it is; the judge's own, which nobody else reads or copies."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What is asked for: a channel of a segment, a command of a device (`owner`), an app, or the node itself.

    `name` is the channel, the command, or the name of the app; `segment` that of the channel or of the device.
    """

    kind: ResourceKind
    name: str = ""
    segment: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy engine decided; `rule` is the name of the rule that decided, where one did."""

    allowed: bool
    reason: Reason
    rule: str = ""


class Evidence(StrEnum):
    """What is observed of a device and counts for or against it."""

    AUTHENTICATION_FAILED = "authentication_failed"
    REPLAYED = "replayed"
    MALFORMED = "malformed"
    DENIED = "denied"
    FLOODING = "flooding"
    TOPIC_SPREAD = "topic_spread"
    ODD_PAYLOADS = "odd_payloads"
    SILENT = "silent"
    REPORTED_BY_PEER = "reported_by_peer"
    ATTESTED = "attested"
    WELL_BEHAVED = "well_behaved"
