"""One node's copy of the map of a scope: entries, time and questions go in, verdicts and answers come out. Pure.

What comes in here has passed the signature check. Whatever the order, however often, through whomever: nodes that have
been shown the same entries hold the same map, because each place keeps the entry that is highest in a total order, and
each bound keeps the newest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from qedge.orchestrator.state.hybrid_clock import HybridClock, utc_ns_of
from qedge.orchestrator.state.model import Entry, Verdict
from qedge.orchestrator.state.namespaces import NAMESPACES, Namespace, Scope
from qedge.wire.state import BUCKETS, MAX_HEADS, MAX_LOAD, Head, StateEntry, StateHeads

SECOND_NS: Final = 1_000_000_000
MAX_LOAD_BYTES: Final = 128 * 1024
"""Entries that go in one message, without their chains; the rest follows in the next."""


class Replica:
    """The entries of one scope."""

    def __init__(self, scope: Scope, clock: HybridClock, namespaces: Mapping[str, Namespace] = NAMESPACES) -> None:
        self.scope = scope
        self._clock = clock
        self._namespaces = {name: each for name, each in namespaces.items() if each.scope is scope}
        self._entries: dict[bytes, Entry] = {}
        self._of: dict[str, dict[bytes, Entry]] = {name: {} for name in self._namespaces}
        self._by_writer: dict[tuple[str, str], dict[bytes, Entry]] = {}
        self._buckets: list[dict[bytes, None]] = [{} for _ in range(BUCKETS)]  # in the order of arrival
        self._sums: list[bytes] = [_sum(())] * BUCKETS
        self._changed: set[int] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    def find(self, ident: bytes) -> Entry | None:
        """Return the entry of a place, a deletion too."""
        return self._entries.get(ident)

    def under(self, namespace: str) -> tuple[Entry, ...]:
        """Return all entries of a namespace, deletions too."""
        return tuple(self._of.get(namespace, {}).values())

    def held_by(self, namespace: str, writer: str) -> int:
        """Return how many entries of a namespace are a writer's."""
        return len(self._by_writer.get((namespace, writer), ()))

    def precheck(self, said: StateEntry, ident: bytes, utc_ns: int) -> Verdict | None:
        """Say of an entry that nobody has checked why it would have no effect; None: its signature is worth a check."""
        namespace = self._namespaces.get(said.namespace)
        if namespace is None or not _fits(said, namespace):
            return Verdict.FORBIDDEN
        if self._clock.is_ahead(said.stamp, utc_ns):
            return Verdict.AHEAD
        if self._is_over(said, namespace, utc_ns):
            return Verdict.EXPIRED
        known = self._entries.get(ident)
        if known is not None and (said.serial, said.stamp) < (known.said.serial, known.said.stamp):
            return Verdict.OLD
        return None

    def merge(self, entry: Entry, utc_ns: int) -> Verdict:
        """Take in an entry whose writer was checked."""
        verdict = self.precheck(entry.said, entry.ident, utc_ns)
        if verdict is not None:
            return verdict
        known = self._entries.get(entry.ident)
        if known is not None and entry.order <= known.order:
            return Verdict.OLD
        self._clock.observe(entry.said.stamp, utc_ns)
        if known is not None:
            self._drop(known)
        self._add(entry)
        self._keep_bounds(entry)
        return Verdict.NEW if entry.ident in self._entries else Verdict.CROWDED

    def expire(self, utc_ns: int, revoked: Callable[[str], bool] = lambda _key_id: False) -> list[Entry]:
        """Drop what has lived its time and what was signed by a key that counts no more; returns it."""
        gone = [
            entry
            for entry in self._entries.values()
            if self._is_over(entry.said, self._namespaces[entry.said.namespace], utc_ns) or revoked(entry.key_id)
        ]
        for entry in gone:
            self._drop(entry)
        return gone

    def drop_lasting(self) -> list[Entry]:
        """Drop what never expires; returns it."""
        gone = [entry for entry in self._entries.values() if not self._namespaces[entry.said.namespace].keep_s]
        for entry in gone:
            self._drop(entry)
        return gone

    # Comparing

    def sums(self) -> tuple[bytes, ...]:
        """Return a digest of each bucket."""
        for bucket in self._changed:
            self._sums[bucket] = _sum(sorted(ident + self._entries[ident].version for ident in self._buckets[bucket]))
        self._changed.clear()
        return tuple(self._sums)

    def root(self) -> bytes:
        """Return a digest of everything; equal maps have equal ones. 16 bytes."""
        return _sum(self.sums())

    def heads(self, sums: tuple[bytes, ...]) -> StateHeads:
        """Answer a peer whose buckets have these digests: what stands in those that differ, as far as it has room."""
        return self.heads_in(self.differing(sums))

    def differing(self, sums: tuple[bytes, ...]) -> list[int]:
        """Return the buckets whose digests are other ones than these."""
        return [bucket for bucket, (mine, other) in enumerate(zip(self.sums(), sums, strict=True)) if mine != other]

    def heads_in(self, wanted: Iterable[int], most: int = MAX_HEADS) -> StateHeads:
        """Return what stands in buckets, from the front as far as it has room."""
        buckets: list[int] = []
        heads: list[Head] = []
        for bucket in wanted:
            if heads and len(heads) + len(self._buckets[bucket]) > most:
                break  # comes once the buckets before it are alike, or are asked for no more
            buckets.append(bucket)
            heads += [Head(ident, self._entries[ident].version) for ident in self._buckets[bucket]]
        return StateHeads(tuple(buckets), tuple(heads[:most]))

    def compare(self, theirs: StateHeads) -> tuple[list[bytes], list[bytes]]:
        """Return the places to ask a peer for, and those to offer it. Of two versions nobody knows which is newer."""
        held = {head.ident: head.version for head in theirs.heads}
        wants = [ident for ident, version in held.items() if not self._has(ident, version)]
        offers = [
            ident
            for bucket in theirs.buckets
            for ident in self._buckets[bucket]
            if held.get(ident) != self._entries[ident].version
        ]
        return wants, offers

    def load(self, idents: Iterable[bytes]) -> list[Entry]:
        """Return entries to hand over, as many as one message takes."""
        found: list[Entry] = []
        size = 0
        for ident in idents:
            entry = self._entries.get(ident)
            if entry is None:
                continue
            size += 4096 + len(entry.said.value)
            if len(found) == MAX_LOAD or (found and size > MAX_LOAD_BYTES):
                break
            found.append(entry)
        return found

    # Inside

    def _has(self, ident: bytes, version: bytes) -> bool:
        entry = self._entries.get(ident)
        return entry is not None and entry.version == version

    @staticmethod
    def _is_over(said: StateEntry, namespace: Namespace, utc_ns: int) -> bool:
        if not namespace.keep_s and not said.deleted:
            return False
        return utc_ns_of(said.stamp) + namespace.lives_s * SECOND_NS < utc_ns

    def _keep_bounds(self, entry: Entry) -> None:
        name = entry.said.namespace
        namespace = self._namespaces[name]
        self._keep_newest(self._by_writer[name, entry.writer], namespace.per_writer)
        self._keep_newest(self._of[name], namespace.in_all)

    def _keep_newest(self, entries: Mapping[bytes, Entry], most: int) -> None:
        while len(entries) > most:
            self._drop(min(entries.values(), key=lambda each: each.age_order))

    def _add(self, entry: Entry) -> None:
        ident, name = entry.ident, entry.said.namespace
        self._entries[ident] = self._of[name][ident] = entry
        self._by_writer.setdefault((name, entry.writer), {})[ident] = entry
        bucket = ident[0] % BUCKETS
        self._buckets[bucket][ident] = None
        self._changed.add(bucket)

    def _drop(self, entry: Entry) -> None:
        ident, name = entry.ident, entry.said.namespace
        del self._entries[ident], self._of[name][ident]
        of_writer = self._by_writer[name, entry.writer]
        del of_writer[ident]
        if not of_writer:
            del self._by_writer[name, entry.writer]
        bucket = ident[0] % BUCKETS
        del self._buckets[bucket][ident]
        self._changed.add(bucket)


def _fits(said: StateEntry, namespace: Namespace) -> bool:
    if len(said.value) > namespace.value_bytes or (said.deleted and said.value):
        return False
    return namespace.by_serial or not said.serial


def _sum(parts: Collection[bytes]) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()[:16]
