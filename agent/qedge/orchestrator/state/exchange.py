"""Comparing maps with a peer inside the sealed session, so that whatever was lost on the way is found in the end.

Three steps: digests of all buckets; what stands in those that differ; the entries themselves, both ways. Each entry is
believed for its writer's signature, never for the peer that hands it over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError
from qedge.crypto.signed import join_signed
from qedge.orchestrator.state.model import Entry
from qedge.orchestrator.state.namespaces import Scope
from qedge.orchestrator.state.ports import StatePeers
from qedge.orchestrator.state.replica import Replica
from qedge.wire.state import MAX_LOAD, SignedEntry, StateHeads, StateLoad, StateSums, StateWants

_LIMIT_S: Final = 10.0
_MAX_ROUNDS: Final = 64
Learn = Callable[[str, list[bytes]], Awaitable[int]]
"""Checks signed envelopes that a peer handed over and takes them in; returns how many were new."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of a comparison: entries that were new here, and entries that were handed to the peer."""

    got: int = 0
    gave: int = 0

    @property
    def differed(self) -> bool:
        """Whether the maps were not alike."""
        return bool(self.got or self.gave)


class Exchange:
    """Asks peers for what they hold, and answers them. `learn` takes in what comes."""

    def __init__(self, replicas: dict[Scope, Replica], peers: StatePeers, learn: Learn) -> None:
        self._replicas = replicas
        self._peers = peers
        self._learn = learn
        self.on_differed: Callable[[], None] = lambda: None
        """Hears that a peer compared and that the maps were not alike."""

        peers.serve(StateSums, self._tell_heads)
        peers.serve(StateWants, self._hand_over)

    async def compare(self, peer: str, scope: Scope) -> Compared:
        """Compare with a peer and make both maps alike; raises `peer.*`, `bus.*`, `session.*`."""
        replica = self._replicas[scope]
        heads = await self._peers.call(peer, StateSums(scope, replica.sums()), StateHeads, deadline_s=_LIMIT_S)
        wants, offers = replica.compare(heads)
        got = gave = 0
        for _ in range(_MAX_ROUNDS):
            if not wants and not offers:
                break
            now, wants = wants[:MAX_LOAD], wants[MAX_LOAD:]
            giving = replica.load(offers)
            # what was dropped in the meantime must not keep the loop alive
            offers = offers[max(len(giving), 1) :] if giving else []
            answer = await self._peers.call(
                peer, StateWants(scope, tuple(now), pack(giving)), StateLoad, deadline_s=_LIMIT_S
            )
            new = await self._learn(peer, unpack(answer))
            got, gave = got + new, gave + len(giving)
            if len(answer.entries) < len(now) and answer.entries:
                # the peer sends as much as one message takes
                wants = now[len(answer.entries) :] + wants
        return Compared(got, gave)

    async def _tell_heads(self, _peer: str, asked: StateSums) -> StateHeads:
        return self._replica(asked.scope).heads(asked.sums)

    async def _hand_over(self, peer: str, asked: StateWants) -> StateLoad:
        replica = self._replica(asked.scope)
        answer = pack(replica.load(asked.wants))
        await self._learn(peer, unpack(asked.load))
        self.on_differed()
        return answer

    def _replica(self, scope: str) -> Replica:
        for each, replica in self._replicas.items():
            if each == scope:
                return replica
        raise QedgeError("bus.bad_message", "A peer asks for a scope of the shared state that is not known.")


def pack(entries: Iterable[Entry], most_bytes: int = 0) -> StateLoad:
    """Put entries together for a peer, each chain once; from the front as many as have room, but one (0: all)."""
    chains: dict[tuple[bytes, ...], int] = {}
    signed: list[SignedEntry] = []
    size = 0
    for entry in entries:
        if entry.proof is None:
            continue
        proof = entry.proof
        size += len(proof.covered) + len(proof.signature)
        size += 0 if proof.chain in chains else sum(len(certificate) for certificate in proof.chain)
        if most_bytes and signed and size > most_bytes:
            break
        signed.append(SignedEntry(proof.covered, chains.setdefault(proof.chain, len(chains)), proof.signature))
    return StateLoad(tuple(chains), tuple(signed))


def unpack(load: StateLoad) -> list[bytes]:
    """Return the envelopes that a peer handed over; one whose chain is missing is left out."""
    chains = load.chains
    return [
        join_signed(entry.covered, chains[entry.chain], entry.signature)
        for entry in load.entries
        if entry.chain < len(chains)
    ]
