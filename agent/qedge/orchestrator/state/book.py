"""The maps of both scopes as one book: what programs put and read, who hears of it, what is to be written. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

from qedge.base.errors import QedgeError
from qedge.orchestrator.state.hybrid_clock import HybridClock, utc_ns_of
from qedge.orchestrator.state.model import Entry, Verdict
from qedge.orchestrator.state.namespaces import NAMESPACES, TOMBSTONE_S, Namespace, Scope
from qedge.orchestrator.state.proof import KINDS, place_of
from qedge.orchestrator.state.replica import SECOND_NS, Replica
from qedge.wire.state import StateEntry, StateRow

Heard = Callable[[Entry], None]
_NO_NEWS: Final = 0


class StateBook:
    """All that a node holds. `dirty` is what the database does not show yet: an entry, or None where it is gone."""

    def __init__(self, node: str, max_ahead_ns: int) -> None:
        self._node = node
        self.clock = HybridClock(max_ahead_ns)
        self.replicas = {scope: Replica(scope, self.clock) for scope in Scope}
        self.dirty: dict[bytes, Entry | None] = {}
        self.change = _NO_NEWS
        self._changes: dict[bytes, tuple[int, int]] = {}
        self._last: dict[str, int] = {}
        self._watchers: dict[int, tuple[str, Heard]] = {}
        self._ids = itertools.count()

    # What this node says

    def draft(
        self, namespace: str, key: str, value: bytes, utc_ns: int, *, serial: int = 0, deleted: bool = False
    ) -> StateEntry:
        """Make an entry of this node that is to be signed; raises `state.*`."""
        rules = rules_of(namespace)
        replica = self.replicas[rules.scope]
        ident = place_of(namespace, key, self._node)
        known = replica.find(ident)
        if len(value) > rules.value_bytes:
            raise QedgeError(
                "state.refused",
                f"{namespace} takes values of at most {rules.value_bytes} bytes, not {len(value)}.",
                fix="Keep it elsewhere and its hash here.",
                limit=rules.value_bytes,
            )
        if deleted and (known is None or known.said.deleted):
            raise _nothing(namespace, key)
        mine = known is not None and known.writer == self._node
        if not rules.evicts and not mine and replica.held_by(namespace, self._node) >= rules.per_writer:
            raise QedgeError(
                "state.full",
                f"This node holds {rules.per_writer} entries of {namespace}, as many as a writer may.",
                fix="Delete some; deleted ones count until they are forgotten.",
                limit=rules.per_writer,
            )
        return KINDS[rules.scope](namespace, key, self.clock.tick(utc_ns), serial, deleted, value)

    # What comes

    def take(self, entry: Entry, utc_ns: int, *, kept: bool = False) -> Verdict:
        """Take an entry in, and tell those who watch; `kept`: it comes from the database."""
        verdict = self.replicas[NAMESPACES[entry.said.namespace].scope].merge(entry, utc_ns)
        if verdict is Verdict.NEW:
            self.change += 1
            self._changes[entry.ident] = (self.change, utc_ns)
            self._last[entry.said.namespace] = self.change
            if not kept:
                self.dirty[entry.ident] = entry
            for namespace, heard in tuple(self._watchers.values()):
                if namespace == entry.said.namespace:
                    heard(entry)
        return verdict

    def expire(self, utc_ns: int, revoked: Callable[[str], bool]) -> int:
        """Drop what has lived its time or is of a revoked key; returns how many."""
        gone = [entry for replica in self.replicas.values() for entry in replica.expire(utc_ns, revoked)]
        self._forget(gone)
        return len(gone)

    def give_up_old(self, away_s: float) -> int:
        """Drop what may have been deleted in a time so long that nobody remembers the deletion; returns how many."""
        if away_s < TOMBSTONE_S:
            return 0
        gone = [entry for replica in self.replicas.values() for entry in replica.drop_lasting()]
        self._forget(gone)
        return len(gone)

    def sweep(self) -> None:
        """Have the database forget what bounds pushed out."""
        held = self.replicas
        for ident in [ident for ident in self._changes if all(each.find(ident) is None for each in held.values())]:
            self._changes.pop(ident)
            self.dirty[ident] = None

    def _forget(self, gone: list[Entry]) -> None:
        for entry in gone:
            self._changes.pop(entry.ident, None)
            self.dirty[entry.ident] = None

    # What programs read

    def get(self, namespace: str, key: str, writer: str = "") -> Entry | None:
        """Return the entry under a key; of namespaces where each has its own that of `writer`, or of this node."""
        rules = rules_of(namespace)
        entry = self.replicas[rules.scope].find(place_of(namespace, key, writer or self._node))
        return None if entry is None or entry.said.deleted else entry

    def under(self, namespace: str, key: str = "") -> tuple[Entry, ...]:
        """Return all entries of a namespace, or those of one key, without deletions."""
        rules = rules_of(namespace)
        return tuple(
            entry
            for entry in self.replicas[rules.scope].under(namespace)
            if not entry.said.deleted and key in ("", entry.said.key)
        )

    def last_change(self, namespace: str = "") -> int:
        """Return the number of the newest change, in a namespace or at all."""
        if not namespace:
            return self.change
        rules_of(namespace)
        return self._last.get(namespace, _NO_NEWS)

    def rows(self, namespace: str = "", since: int = 0) -> list[StateRow]:
        """Describe entries by namespace, key and writer; with `since` those newer than that change, deletions too."""
        if namespace:
            rules_of(namespace)
        found = [
            self.row(entry)
            for replica in self.replicas.values()
            for entry in replica
            if namespace in ("", entry.said.namespace) and (since or not entry.said.deleted)
        ]
        found = [row for row in found if row.change > since] if since else found
        return sorted(found, key=lambda row: (row.namespace, row.key, row.writer))

    def row(self, entry: Entry) -> StateRow:
        """Describe an entry."""
        said = entry.said
        return StateRow(
            said.namespace,
            said.key,
            entry.writer,
            utc_ns_of(said.stamp),
            said.stamp,
            said.serial,
            said.deleted,
            said.value,
            *self._changes.get(entry.ident, (_NO_NEWS, 0)),
        )

    def watch(self, namespace: str, heard: Heard) -> Callable[[], None]:
        """Call `heard` with each entry that comes, this node's own too; returns what ends it."""
        rules_of(namespace)
        number = next(self._ids)
        self._watchers[number] = (namespace, heard)

        def stop() -> None:
            self._watchers.pop(number, None)

        return stop


def rules_of(namespace: str) -> Namespace:
    """Return the rules of a namespace; raises `state.not_found`."""
    found = NAMESPACES.get(namespace)
    if found is None:
        raise QedgeError(
            "state.not_found",
            f"The shared state has no namespace {namespace!r}.",
            fix=f"There are {', '.join(NAMESPACES)}.",
        )
    return found


def due_again(entry: Entry, utc_ns: int) -> bool:
    """Say whether an entry of one's own has to be said again, or it would be forgotten: after a third of its time."""
    keep_s = NAMESPACES[entry.said.namespace].keep_s
    return bool(keep_s) and utc_ns - utc_ns_of(entry.said.stamp) > keep_s * SECOND_NS // 3


def _nothing(namespace: str, key: str) -> QedgeError:
    return QedgeError("state.not_found", f"Nothing stands under {key!r} in {namespace}.", fix="`qedge state list`.")
