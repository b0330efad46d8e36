"""Nouns of the fleet tool: nodes as the operator sees them, commands under way, how they ended."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from qedge.wire.commands import CommandState
from qedge.wire.mesh import Capability


class NodeStanding(StrEnum):
    """What is known of a node. `LOST` is the broker's word, which nobody signed."""

    UP = "up"
    LEAVING = "leaving"
    LOST = "lost"


class FleetNode(msgspec.Struct, frozen=True, tag_field="type", tag="fleet-node/1"):
    """A node by its newest signed birth. Times are nanoseconds since 1970 UTC.

    `born_utc_ns` is the node's own clock when it last introduced itself, `seen_utc_ns` the tool's when it last heard a
    word that proves itself: a birth, a heartbeat that is not repeated, or a report.
    """

    name: str
    state: NodeStanding
    version: str = ""
    labels: tuple[str, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    epoch: int = 0
    boot_id: str = ""
    policy_serial: int = 0
    config_serial: int = 0
    devices_serial: int = 0
    revocation_serial: int = 0
    born_utc_ns: int = 0
    seen_utc_ns: int = 0
    key_id: str = ""
    certificate_until_utc_ns: int = 0
    kinds: tuple[str, ...] = ()
    """Kinds of commands that it carries out; empty where it takes none, or has not said."""


class Ending(StrEnum):
    """How a command stands as its sender sees it; the last six are ends."""

    WAITING = "waiting"
    """No word of the node yet; the request stands until it expires."""
    UNDER_WAY = "under way"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    EXPIRED = "expired"
    """The node said nothing before the request expired, and will not begin it any more."""
    SILENT = "silent"
    """The node began it, and its time limit passed without an end."""
    WITHDRAWN = "withdrawn"
    """Its sender took the request back before the node said anything of it."""
    OUTLIVED = "outlived"
    """The node has another key than the request is for, and said nothing of it; it will not begin it any more."""


ENDED: Final = frozenset(Ending) - {Ending.WAITING, Ending.UNDER_WAY}


class SentCommand(msgspec.Struct, frozen=True, tag_field="type", tag="sent-command/1"):
    """A command to one node, and the newest that the node said of it. `result` is in JSON's terms, None without one."""

    id: str
    node: str
    kind: str
    ending: Ending
    state: str = ""
    step: str = ""
    progress: float = 0.0
    reason: str = ""
    code: str = ""
    revision: int = -1
    operator: str = ""
    issued_utc_ns: int = 0
    expires_utc_ns: int = 0
    ended_utc_ns: int = 0
    result: bytes = b""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.ending in ENDED


def ending_of(state: str) -> Ending:
    """Return where a command stands by its node's word; a state that is not known here is one on the way."""
    if state == CommandState.SUCCESSFUL:
        return Ending.SUCCESSFUL
    return Ending.FAILED if state == CommandState.FAILED else Ending.UNDER_WAY
