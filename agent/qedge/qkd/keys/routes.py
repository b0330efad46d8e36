"""Ways to nodes to which no link leads: the neighbours are asked, and ask theirs, each time anew.

What a link holds changes within seconds, so there are no tables to keep in step: a question goes along all ways of at
most so many links, the answers name links that have the key now. A way that was found is used for some seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.qkd.keys import relaying
from qedge.qkd.keys.ledger import Ledger
from qedge.qkd.keys.model import StoredStatus
from qedge.qkd.keys.ports import PeerKeyStore
from qedge.wire.keys import MAX_HOPS, KeyReach, KeyReached, RelayHop

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
_KEEP_NS: Final = 3_000_000_000
_MAX_KEPT: Final = 256
_MAX_ASKED: Final = 16
"""Neighbours that are asked for one way at most, those with most key."""


class Do(Protocol):
    """Does one operation on the ledger."""

    def __call__(self, work: Callable[[Ledger], T], /) -> Awaitable[T]:
        """Do it."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """The neighbour to which keys go first, the links that follow, and the bits that the poorest link has."""

    first: str
    onward: tuple[RelayHop, ...]
    bits: int


class Routes:
    """Finds ways from this node, and tells others of links from here. `max_hops`: links beyond the first; 0: none."""

    def __init__(
        self,
        node: str,
        peers: PeerKeyStore,
        do: Do,
        links: Callable[[], Iterable[StoredStatus]],
        *,
        relays: bool,
        max_hops: int,
        deadline_s: float,
        clock: Clock,
    ) -> None:
        self._node = node
        self._peers = peers
        self._do = do
        self._links = links
        self._relays = relays
        self._max_hops = max_hops
        self._deadline_s = deadline_s
        self._clock = clock
        self._kept: dict[str, tuple[int, Way]] = {}
        peers.serve(KeyReach, self._answer)

    async def find(self, target: str, num_bytes: int, *, away: Iterable[str] = ()) -> Way | None:
        """Return the way of fewest links, of those the one with most key; None: no way has so many bytes.

        Neighbours in `away` are not asked.
        """
        if not self._max_hops:
            return None
        kept = self._kept.get(target)
        if kept is not None and self._clock.now_ns() - kept[0] < _KEEP_NS and kept[1].bits >= 8 * num_bytes:
            return kept[1]
        question = KeyReach(target, num_bytes, (self._node,), self._max_hops)
        way = await self._ask_around(question, set(away))
        if way is not None:
            self._kept[target] = (self._clock.now_ns(), way)
            while len(self._kept) > _MAX_KEPT:
                self._kept.pop(next(iter(self._kept)))
        return way

    def forget(self, target: str) -> None:
        """Look for a new way the next time: that one failed."""
        self._kept.pop(target, None)

    async def _ask_around(self, question: KeyReach, but: set[str]) -> Way | None:
        room: dict[str, int] = {}
        for status in self._links():
            if status.peer not in (*question.path, question.target, *but):
                room[status.peer] = max(room.get(status.peer, 0), status.deliverable_bits)
        able = [peer for peer, bits in room.items() if bits >= 8 * question.num_bytes]
        able = sorted(able, key=lambda peer: -room[peer])[:_MAX_ASKED]
        answers = await asyncio.gather(*(self._ask(peer, question) for peer in able))
        ways = [
            Way(peer, said.hops, min(room[peer], said.bits))
            for peer, said in zip(able, answers, strict=True)
            if said.hops and said.hops[-1].node == question.target and len(said.hops) <= question.hops
        ]
        return min(ways, key=lambda way: (len(way.onward), -way.bits), default=None)

    async def _ask(self, peer: str, question: KeyReach) -> KeyReached:
        try:
            return await self._peers.call(peer, question, KeyReached, deadline_s=self._deadline_s * _share(question))
        except QedgeError:
            return KeyReached()

    async def _answer(self, peer: str, question: KeyReach) -> KeyReached:
        """Tell a neighbour of a way from here."""
        if not self._relays or not question.path or question.path[-1] != peer or self._node in question.path:
            return KeyReached()
        try:
            if any(status.peer == question.target for status in self._links()):
                hop, bits = await self._offer(question.target, question.num_bytes)
                return KeyReached((hop,), bits)
            if question.hops < 2 or len(question.path) >= MAX_HOPS:
                return KeyReached()
            further = KeyReach(question.target, question.num_bytes, (*question.path, self._node), question.hops - 1)
            way = await self._ask_around(further, set())
            if way is None:
                return KeyReached()
            hop, bits = await self._offer(way.first, question.num_bytes)
        except QedgeError:
            return KeyReached()  # the link has too little key
        return KeyReached((hop, *way.onward), min(bits, way.bits))

    async def _offer(self, peer: str, num_bytes: int) -> tuple[RelayHop, int]:
        return await self._do(partial(relaying.offer, peer=peer, num_bytes=num_bytes))


def _share(question: KeyReach) -> float:
    """Return which part of the time whoever asks has: less at each node, so that one that does not answer somewhere
    costs the way over it and not the answers of all others."""
    return question.hops / (question.hops + len(question.path) - 1)
