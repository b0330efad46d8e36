"""What nodes say to each other about themselves."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from qedge.wire.load import LoadView

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,36}\Z")]
Short = Annotated[str, msgspec.Meta(max_length=200)]


class Capability(msgspec.Struct, frozen=True):
    """One driver that is up: what it offers, and facts it reports of itself."""

    name: Name
    kind: Short
    driver: Short
    version: Short
    simulated: bool
    facts: Annotated[dict[Short, str | int | float | bool], msgspec.Meta(max_length=64)] = {}


class NodeState(StrEnum):
    """What a birth says of its node. `LOST` is the last will: a hint that only starts a closer look."""

    UP = "up"
    LEAVING = "leaving"
    LOST = "lost"


class Birth(msgspec.Struct, frozen=True, tag_field="type", tag="birth/1"):
    """A node introduces itself. `epoch` grows with every start, so that an old message never hides a newer one.

    `state` is one of `NodeState`; a reader takes any it does not know for `lost`. `instance` is random for each start:
    two instances that speak at once under one name share an identity, which is a fault. Heartbeat `k` of this birth
    is due `k × pulse_ms` after it and shows the element of a hash chain that leads to `pulse_anchor` in `k` steps
    (`qedge.mesh.pulse`); the chain has `pulse_count` elements.

    `policy_serial` is that of the fleet's policy which the node enforces, `devices_serial` that of its list of revoked
    devices, `config_serial` that of the layer of configuration that the fleet gave it; 0 where there is none.
    """

    fleet: Name
    node: Name
    version: Short
    boot_id: Short
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    utc_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    standalone: bool
    state: Short
    instance: Annotated[bytes, msgspec.Meta(max_length=16)] = b""
    pulse_ms: Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] = 0
    pulse_anchor: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    pulse_count: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    revocation_serial: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    capabilities: Annotated[tuple[Capability, ...], msgspec.Meta(max_length=64)] = ()
    policy_serial: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    devices_serial: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    labels: Annotated[tuple[Short, ...], msgspec.Meta(max_length=16)] = ()
    config_serial: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    """What the operator calls it, for jobs that ask for such a node."""


class Lost(msgspec.Struct, frozen=True, tag_field="type", tag="lost/1"):
    """The last will: the broker lost its connection to this instance. A hint; it makes peers look closer."""

    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    instance: Annotated[bytes, msgspec.Meta(max_length=16)]


class Pulse(msgspec.Struct, frozen=True, tag_field="type", tag="pulse/1"):
    """A heartbeat: element number `index` of the hash chain that the birth of `epoch` and `instance` committed to."""

    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    instance: Annotated[bytes, msgspec.Meta(max_length=16)]
    index: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    element: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class PeerState(StrEnum):
    """What a node holds of a peer. `SUSPECT` is being asked; `DUPLICATE`: two boxes speak under its name."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    REVOKED = "revoked"
    DUPLICATE = "duplicate"


class SessionView(msgspec.Struct, frozen=True):
    """A sealed session. `path` is `mqtt` or `direct`; `extra_key`: a key of another source is mixed in.

    `restricted`: policy wants such a key, there was none, and the session carries only what leads to one.
    """

    state: str = "none"
    suite: int = 0
    group: str = ""
    path: str = ""
    extra_key: bool = False
    opened_utc_ns: int = 0
    restricted: bool = False


class PeerView(msgspec.Struct, frozen=True, tag_field="type", tag="peer/1"):
    """A peer as this node knows it. `heard_s`: seconds since its last sign of life; `own`: it is this node itself."""

    node: str
    state: PeerState
    own: bool = False
    version: str = ""
    epoch: int = 0
    boot_id: str = ""
    key_id: str = ""
    since_utc_ns: int = 0
    heard_s: float = -1.0
    pulse_s: float = 0.0
    certificate_until_utc_ns: int = 0
    capabilities: tuple[Capability, ...] = ()
    session: SessionView = SessionView()
    policy_serial: int = 0
    devices_serial: int = 0
    labels: tuple[str, ...] = ()
    load: LoadView | None = None


class PeerList(msgspec.Struct, frozen=True, tag_field="type", tag="peer-list/1"):
    """All members of the fleet that this node knows, itself included."""

    fleet: str
    peers: tuple[PeerView, ...]


class Ping(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="mesh-ping/1"):
    """`nonce` comes back in the answer; `load` only takes room, to measure with."""

    nonce: Annotated[bytes, msgspec.Meta(max_length=64)]
    load: Annotated[bytes, msgspec.Meta(max_length=2**20)] = b""


class Pong(msgspec.Struct, frozen=True, tag_field="type", tag="mesh-pong/1"):
    """The answer to a `Ping`."""

    nonce: Annotated[bytes, msgspec.Meta(max_length=64)]
