"""A roll-out on paper: its waves, when it stops, and everything that can happen to it. Pure.

The plan and what happened are all there is: the engine (`rollout`) comes to the same state whenever it is told both
again, which is what makes a roll-out go on after its tool was killed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from math import ceil
from typing import Annotated, Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.client.fleet_tool.model import NodeStanding
from qedge.wire.commands import CommandId, KeyId, Serial
from qedge.wire.mesh import Name, Short
from qedge.wire.trust import Utc

MAX_WAVES: Final = 100
DEFAULT_WAVES: Final = "1,10%,50%,100%"
_SIZE: Final = re.compile(r"(\d{1,6})(%?)")
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=30 * 86_400)]


class Order(msgspec.Struct, frozen=True):
    """A kind of command and its encoded arguments."""

    kind: Name
    arguments: bytes = b""


class RolloutPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="rollout-plan/1"):
    """What is to be done, to whom, in which waves.

    A wave whose nodes have all ended is watched for `soak_s`; a node that is gone by then, has started anew or runs
    another version than `expect_version` (empty: any) has failed. The roll-out stops when more than `max_failures`
    nodes of a wave have failed and more than `max_share` of it. `parallel` bounds how many nodes are at it at once (0:
    all of the wave). Each request is good for `expires_s` from when it is sent. `back` is what undoes it, sent by
    itself to the nodes of the wave in which it stopped.
    """

    id: CommandId
    fleet: Name
    operator: Name
    order: Order
    waves: Annotated[tuple[tuple[Name, ...], ...], msgspec.Meta(min_length=1, max_length=MAX_WAVES)]
    made_utc_ns: Utc
    soak_s: _Seconds = 60.0
    settle_s: _Seconds = 5.0
    expires_s: Annotated[float, msgspec.Meta(ge=1, le=30 * 86_400)] = 3600.0
    time_limit_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    max_failures: Annotated[int, msgspec.Meta(ge=0)] = 0
    max_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    parallel: Annotated[int, msgspec.Meta(ge=0)] = 0
    expect_version: Short = ""
    back: Order | None = None
    note: Short = ""

    def tolerance(self, size: int) -> int:
        """Return how many nodes of a wave of `size` may fail."""
        return max(self.max_failures, int(self.max_share * size))


class Word(StrEnum):
    """What an operator says to a roll-out that is under way."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    """Go no further, and take back what nobody has begun."""
    BACK = "back"
    """The same, and undo it at every node that has it."""


class Asked(msgspec.Struct, frozen=True, tag="asked"):
    """A request was made for a node, and is about to be published. `back`: it is the one that undoes.

    `node_key` as in `CommandRequest`; files of older tools have none.
    """

    utc_ns: Utc
    node: Name
    id: CommandId
    serial: Serial
    expires_utc_ns: Utc
    back: bool = False
    node_key: KeyId | msgspec.UnsetType = msgspec.UNSET


class Heard(msgspec.Struct, frozen=True, tag="heard"):
    """A node told where a command stands (`CommandState`)."""

    utc_ns: Utc
    node: Name
    id: CommandId
    state: Short
    reason: Short = ""


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """A node introduced itself, left, or was lost."""

    utc_ns: Utc
    node: Name
    standing: NodeStanding
    version: Short = ""
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


class Withdrawn(msgspec.Struct, frozen=True, tag="withdrawn"):
    """A request was taken back."""

    utc_ns: Utc
    node: Name
    id: CommandId


class Said(msgspec.Struct, frozen=True, tag="said"):
    """An operator said something."""

    utc_ns: Utc
    word: Word
    operator: Name


class Passed(msgspec.Struct, frozen=True, tag="passed"):
    """Time went by, and something was due."""

    utc_ns: Utc


Event = Asked | Heard | Seen | Withdrawn | Said | Passed


def cut_waves(nodes: Sequence[str], sizes: str) -> tuple[tuple[str, ...], ...]:
    """Cut nodes into waves. `sizes`: how many have it after each wave, as numbers or shares: `1,10%,50%,100%`.

    Shares are rounded up; a wave that would be empty is left out; what is missing at the end is one wave more. Raises
    `fleet.bad_waves`.
    """
    if len(set(nodes)) != len(nodes):
        raise _bad("a node is named twice")
    if not nodes:
        raise _bad("there are no nodes")
    ends: list[int] = []
    for part in sizes.split(","):
        match = _SIZE.fullmatch(part.strip())
        if match is None or not int(match[1]) or (match[2] and int(match[1]) > 100):
            raise _bad(f"{part.strip()!r} is neither a number of nodes nor a share of them")
        end = min(len(nodes), ceil(len(nodes) * int(match[1]) / 100) if match[2] else int(match[1]))
        if ends and end < ends[-1]:
            raise _bad("later waves have to reach more nodes than earlier ones")
        ends.append(end)
    waves = []
    start = 0
    for end in [*ends, len(nodes)]:
        if end > start:
            waves.append(tuple(nodes[start:end]))
            start = end
    if len(waves) > MAX_WAVES:
        raise _bad(f"there are more than {MAX_WAVES}")
    return tuple(waves)


def _bad(why: str) -> QedgeError:
    return QedgeError(
        "fleet.bad_waves", f"The roll-out has no waves: {why}.", fix=f"For example --waves {DEFAULT_WAVES}"
    )
