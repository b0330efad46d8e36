"""Sites as the others see them: what is said of each, and when it is said again. Pure.

A site is what shares a broker: its nodes watch each other's hearts and hold the same map. Of other sites a node knows
one entry each, said by the first of the site's nodes that lives (decision 0073).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from qedge.orchestrator.state.model import Entry
from qedge.orchestrator.state.partners import gateways
from qedge.wire.state import NodeSummary, SiteSummary

T = TypeVar("T", bound=msgspec.Struct)
_ENCODE = msgspec.msgpack.Encoder().encode


def summaries(entries: Iterable[Entry]) -> tuple[SiteSummary, ...]:
    """Return the newest word on each site; entries that cannot be read are passed over."""
    newest: dict[str, Entry] = {}
    for entry in entries:
        known = newest.get(entry.said.key)
        if known is None or entry.said.stamp > known.said.stamp:
            newest[entry.said.key] = entry
    found = (read(entry.said.value, SiteSummary) for entry in newest.values())
    return tuple(each for each in found if each is not None)


def summary_of(site: str, names: Sequence[str], nodes: Iterable[NodeSummary]) -> SiteSummary:
    """Sum up the site whose living nodes have these names; what they can run is summed over `nodes`."""
    said = tuple(nodes)
    return SiteSummary(
        site,
        len(names),
        sum(each.qpus for each in said),
        max((each.max_qubits for each in said), default=0),
        sum(each.clops for each in said),
        gateways(names),
    )


def read(value: bytes, kind: type[T]) -> T | None:
    """Read the value of an entry; None where it is something else, of another version perhaps."""
    try:
        return msgspec.msgpack.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class Herald:
    """Says of a node when it has to speak for its site: as the first of those that live, after a change."""

    def __init__(self, node: str, least_ns: int) -> None:
        self._node = node
        self._least_ns = least_ns
        self._said: SiteSummary | None = None
        self._said_ns = 0

    def look(self, now: SiteSummary, now_ns: int) -> SiteSummary | None:
        """Return what is to be said; None: nothing now."""
        if not now.gateways or now.gateways[0] != self._node:
            self._said = None  # whoever speaks next may have said something else
            return None
        if now == self._said or (self._said_ns and now_ns - self._said_ns < self._least_ns):
            return None
        self._said, self._said_ns = now, now_ns
        return now


def encode_facts(facts: Mapping[str, str | int | float | bool]) -> bytes:
    """Write facts of a QPU as the value of an entry, in the order of their names."""
    return _ENCODE(dict(sorted(facts.items())))


def encode(summary: msgspec.Struct) -> bytes:
    """Write a summary as the value of an entry."""
    return _ENCODE(summary)
