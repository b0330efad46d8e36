"""How a writer signs an entry, and how everybody else comes to believe it. Pure; takes a signature's time.

A certificate has to be valid at the time of the stamp, not at the time of reading: nodes that look at different times
must come to the same verdict, or they would never agree. What a clock may be wrong by bounds how far a stamp can be in
the future, what a namespace keeps how far in the past; a key that is lost is revoked, which counts at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from qedge.base.errors import QedgeError
from qedge.crypto.keys import SigningKey
from qedge.crypto.signed import ShowsChain, join_signed, open_signed, sign_envelope, split_signed
from qedge.crypto.trust import Trust
from qedge.orchestrator.state.hybrid_clock import utc_ns_of
from qedge.orchestrator.state.model import Entry, Proof, ident_of, make_entry
from qedge.orchestrator.state.namespaces import NAMESPACES, Scope
from qedge.wire.envelope import Envelope, Header, bad_message, purpose_of, read_body, take_apart
from qedge.wire.state import SharedEntry, StateEntry
from qedge.wire.topics import Channel, topic

CHANNELS: Final = {Scope.SITE: Channel.STATE, Scope.FLEET: Channel.SHARED}
KINDS: Final[dict[Scope, type[StateEntry]]] = {Scope.SITE: StateEntry, Scope.FLEET: SharedEntry}
"""What is signed for which scope."""


class Signer:
    """Signs what this node says."""

    def __init__(self, fleet: str, node: str, key: SigningKey, chain: ShowsChain) -> None:
        self._fleet = fleet
        self._node = node
        self._key = key
        self._chain = chain

    def sign(self, said: StateEntry) -> Entry:
        """Sign an entry of this node. About 0.5 ms."""
        namespace = NAMESPACES[said.namespace]
        where = topic(self._fleet, self._node, CHANNELS[namespace.scope])
        header = Header(where, self._node, said.stamp, purpose_of(KINDS[namespace.scope]), utc_ns_of(said.stamp))
        proof = Proof(*split_signed(sign_envelope(header, said, self._key, self._chain)))
        return make_entry(
            said, self._node, own=namespace.own, key_id=self._key.key_id, covered=proof.covered, proof=proof
        )


def message_of(entry: Entry) -> bytes:
    """Return the envelope of an entry as it goes over the bus."""
    proof = _proof(entry)
    return join_signed(proof.covered, proof.chain, proof.signature)


def topic_of(fleet: str, entry: Entry) -> str:
    """Return the topic of an entry: one of its writer, for the scope of its namespace."""
    return topic(fleet, entry.writer, CHANNELS[NAMESPACES[entry.said.namespace].scope])


def peek(data: bytes, fleet: str, where: str = "") -> tuple[Scope, StateEntry, str, bytes, bytes]:
    """Read what an envelope claims, believing nothing: scope, entry, writer, and its place and version.

    `where` is the topic on which it came; empty where it came another way. Raises `bus.bad_message`.
    """
    envelope = take_apart(data)
    header = envelope.header
    said = _body(envelope, where or header.topic)
    namespace = NAMESPACES.get(said.namespace)
    if (
        namespace is None
        or type(said) is not KINDS[namespace.scope]
        or header.topic != topic(fleet, header.sender, CHANNELS[namespace.scope])
    ):
        raise bad_message("its namespace is not known, or has another topic")
    claimed = make_entry(said, header.sender, own=namespace.own, covered=envelope.covered)
    return namespace.scope, said, header.sender, claimed.ident, claimed.version


def is_short(data: bytes, trust: Trust) -> bool:
    """Say whether `verify` takes the time of one signature, since the writer's chain is known; raises as it does."""
    _, chain, _ = split_signed(data)
    return trust.knows(chain)


def verify(data: bytes, trust: Trust) -> Entry:
    """Check the signature of an entry that `peek` could read.

    Raises `bus.bad_message`, `auth.untrusted`, `auth.revoked`, `auth.bad_signature`. About 0.2 ms; 0.7 ms for a writer
    that is not known yet.
    """
    covered, chain, signature = split_signed(data)
    envelope = take_apart(data)
    said = _body(envelope, envelope.header.topic)
    written_ns = utc_ns_of(said.stamp)
    _, _, member = open_signed(data, envelope.header.topic, type(said), trust, written_ns)
    namespace = NAMESPACES[said.namespace]
    proof = Proof(covered, chain, signature)
    name = member.subject.name
    return make_entry(said, name, own=namespace.own, key_id=member.key_id, covered=covered, proof=proof)


def verify_all(messages: list[bytes], trust: Trust, refused: Callable[[QedgeError], None]) -> list[Entry]:
    """Check several entries; those that are not to be believed go to `refused`."""
    found: list[Entry] = []
    for data in messages:
        try:
            found.append(verify(data, trust))
        except QedgeError as error:
            refused(error)
    return found


def place_of(namespace: str, key: str, writer: str) -> bytes:
    """Return the place of an entry; `writer` only counts where each has one of its own."""
    return ident_of(namespace, key, writer if NAMESPACES[namespace].own else "")


def _body(envelope: Envelope, where: str) -> StateEntry:
    # No entry expires by its envelope, so the time of reading is nothing to a body.
    fleet = envelope.header.purpose == purpose_of(SharedEntry)
    return read_body(envelope, where, SharedEntry if fleet else StateEntry, 0)


def _proof(entry: Entry) -> Proof:
    if entry.proof is None:
        raise ValueError("an entry without its proof goes nowhere")
    return entry.proof
