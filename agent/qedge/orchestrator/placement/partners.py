"""With whom a node exchanges loads, and when: bounded however large the fleet is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

from qedge.wire.load import NodeLoad

SOON_NS: Final = 100_000_000
"""Time between two loads to the same node while things change."""
KEEP_ALIVE_NS: Final = 1_500_000_000
INTEREST_NS: Final = 5_000_000_000
"""Who asked is told of changes for this long."""
MAX_LISTENERS: Final = 64
TOLD_PER_S: Final = 50.0
"""Loads that a node tells in a second at most, whatever happens: with more listeners each is told less often."""
_CHANGE_S: Final = 0.05
"""Less is not worth a message: where jobs last milliseconds, all slots are taken and free again many times a second."""
_CHANGE_RATIO: Final = 0.25


def partners_of(own: str, able: Iterable[str], most: int) -> frozenset[str]:
    """Choose whose loads this node keeps up with: all that are able, or of many those with the highest hash.

    The hash of a pair is the same from both ends, so that most pairs choose each other and one exchange serves both.
    """
    names = [name for name in able if name != own]
    if len(names) <= most:
        return frozenset(names)
    return frozenset(sorted(names, key=lambda name: _pair_hash(own, name), reverse=True)[:most])


def is_news(before: NodeLoad | None, now: NodeLoad) -> bool:
    """Say whether a load differs from the one that was told in a way that matters to those who place jobs."""
    if before is None:
        return True
    if (before.verdict, before.draining, before.slots) != (now.verdict, now.draining, now.slots):
        return True
    if abs(before.factor - now.factor) > 0.05:
        return True
    filled = (before.free_slots == 0) is not (now.free_slots == 0)
    if filled and max(*before.backlog_s, *now.backlog_s) > _CHANGE_S:
        return True
    changes = zip(before.backlog_s, now.backlog_s, strict=True)
    return any(abs(one - other) > max(_CHANGE_S, _CHANGE_RATIO * max(one, other)) for one, other in changes)


class Telling:
    """Whom to tell this node's load at a moment."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[NodeLoad, int]] = {}
        self._asked: dict[str, int] = {}

    def asked(self, node: str, load: NodeLoad, now_ns: int) -> None:
        """Note that a node asked and was answered; it hears of changes for a while."""
        if node in self._asked or len(self._asked) < MAX_LISTENERS:
            self._asked[node] = now_ns
        self.told(node, load, now_ns)

    def told(self, node: str, load: NodeLoad, now_ns: int) -> None:
        """Note what a node knows now."""
        self._told[node] = (load, now_ns)

    def due(self, partners: Iterable[str], load: NodeLoad, now_ns: int) -> list[str]:
        """Return whom to tell now: partners now and then, and whoever listens where there is news."""
        self._asked = {node: at_ns for node, at_ns in self._asked.items() if now_ns - at_ns < INTEREST_NS}
        listeners = {*partners, *self._asked}
        self._told = {node: said for node, said in self._told.items() if node in listeners}
        least_ns = max(SOON_NS, round(len(listeners) / TOLD_PER_S * 1e9))
        return [node for node in sorted(listeners) if self._is_due(node, load, now_ns, least_ns, partners)]

    def _is_due(self, node: str, load: NodeLoad, now_ns: int, least_ns: int, partners: Iterable[str]) -> bool:
        before = self._told.get(node)
        if before is None:
            return True
        age_ns = now_ns - before[1]
        if age_ns < least_ns:
            return False
        # a partner is asked as well as told, so it is due now and then even where there is nothing new
        return is_news(before[0], load) or (node in partners and age_ns >= KEEP_ALIVE_NS)

    def listeners(self) -> Mapping[str, int]:
        """Return who asked, and when."""
        return self._asked


def _pair_hash(one: str, other: str) -> bytes:
    return blake2b("/".join(sorted((one, other))).encode(), digest_size=8).digest()
