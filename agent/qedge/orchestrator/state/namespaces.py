"""The namespaces of the shared state: what stands in each, who may write there, how versions are ordered, how much.

All bounds are kept by rules that give the same on every node whatever the order of arrival: of what a writer holds in a
namespace the newest `per_writer` entries stay, then of all the newest `in_all`. So a writer that floods pushes out its
own entries, and two nodes that hold the same history hold the same map.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DAY_S: Final = 86_400
TOMBSTONE_S: Final = 30 * DAY_S
"""How long it is remembered that something was deleted, where entries live for ever. A node that was away for longer
gives up what it held of such entries before it compares, or what was deleted meanwhile would come back."""


class Scope(StrEnum):
    """How far entries go: to the nodes around the brokers of one site, or to all nodes of the fleet."""

    SITE = "site"
    FLEET = "fleet"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A part of the map.

    `own`: every writer has an entry of its own under each key, and nobody can replace it; else the last writer's entry
    is the one of all. `by_serial`: the entry with the higher serial is the newer, and time only breaks ties; else the
    later stamp is. That is for entries of one's own alone: elsewhere a member that writes the highest serial there is
    could never be corrected, while stamps are bound to the clock. `evicts`: a writer's put beyond its share drops its
    oldest entry, else the put is refused.
    `keep_s`: after this time an entry is gone unless its writer says it again; 0: it stays. `operators`: programs of
    operators may write here through the node.
    """

    name: str
    scope: Scope
    meaning: str
    own: bool = True
    by_serial: bool = False
    evicts: bool = False
    operators: bool = False
    per_writer: int = 1
    in_all: int = 1024
    value_bytes: int = 4096
    keep_s: int = 7 * DAY_S

    @property
    def lives_s(self) -> int:
        """Return how long a deletion is remembered."""
        return self.keep_s or TOMBSTONE_S


NAMESPACES: Final[dict[str, Namespace]] = {
    each.name: each
    for each in (
        Namespace(
            "policy",
            Scope.SITE,
            "The serial of the fleet's policy that each node enforces; who is behind asks who is not.",
            by_serial=True,
            value_bytes=64,
        ),
        Namespace("capability", Scope.SITE, "What each node can run, in a few numbers.", value_bytes=2048),
        Namespace(
            "calibration",
            Scope.SITE,
            "What each node measured of its QPUs, by the name of the QPU.",
            per_writer=64,
            in_all=4096,
        ),
        Namespace(
            "templates",
            Scope.SITE,
            "Which node keeps which program, by its hash.",
            evicts=True,
            per_writer=64,
            in_all=8192,
            value_bytes=0,
        ),
        Namespace(
            "sites",
            Scope.FLEET,
            "Each site in a few numbers, by its name.",
            per_writer=1,
            in_all=4096,
            value_bytes=1024,
            keep_s=3600,
        ),
        Namespace(
            "models",
            Scope.FLEET,
            "Parameters of models that nodes share; the last word counts.",
            own=False,
            operators=True,
            per_writer=32,
            in_all=256,
            value_bytes=16 * 1024,
            keep_s=0,
        ),
        Namespace(
            "settings",
            Scope.FLEET,
            "What operators want known everywhere; the last word counts.",
            own=False,
            operators=True,
            per_writer=256,
            in_all=1024,
            keep_s=0,
        ),
    )
}
