"""What nodes say to each other about themselves."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

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

    `state` is one of `NodeState`; a reader takes any it does not know for `lost`.
    """

    fleet: Name
    node: Name
    version: Short
    boot_id: Short
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    utc_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    standalone: bool
    state: Short
    capabilities: Annotated[tuple[Capability, ...], msgspec.Meta(max_length=64)] = ()


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="mesh-ping/1"):
    """`nonce` comes back in the answer; who asks is in the envelope's header."""

    nonce: Annotated[bytes, msgspec.Meta(max_length=64)]


class Pong(msgspec.Struct, frozen=True, tag_field="type", tag="mesh-pong/1"):
    """The answer to a `Ping`."""

    nonce: Annotated[bytes, msgspec.Meta(max_length=64)]
