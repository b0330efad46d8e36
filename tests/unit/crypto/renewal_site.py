"""An authority that renews, and nodes that ask it, without a broker between them."""

from __future__ import annotations

import os

import msgspec

from qedge.crypto.authority import Authority, found
from qedge.crypto.certificates import make_request
from qedge.crypto.keys import SigningKey, generate
from qedge.crypto.model import Member, Role, Subject
from qedge.crypto.renewing import NONCE_BYTES, Answered, RenewalDesk, ask, check_verdict, read_verdict
from qedge.crypto.signed import sign_envelope
from qedge.crypto.trust import Trust
from qedge.wire.envelope import Header, purpose_of
from qedge.wire.renewal import RenewalRequest
from qedge.wire.topics import Channel, topic
from qedge.wire.trust import SigningRequest

START = 1_800_000_000 * 10**9
DAY_NS = 86_400 * 10**9


class MemoryShelf:
    """Keeps chains in memory."""

    def __init__(self) -> None:
        self.chains: dict[str, tuple[bytes, ...]] = {}

    def kept(self, node: str) -> tuple[bytes, ...]:
        return self.chains.get(node, ())

    def keep(self, node: str, chain: tuple[bytes, ...]) -> None:
        self.chains[node] = chain


class Box:
    """A node with its certificate."""

    def __init__(self, site: RenewalSite, name: str) -> None:
        self.site, self.name = site, name
        self.key = generate("ml-dsa-65", os.urandom)
        self.trust = Trust(site.authority.ledger.anchor, "fleet")
        asked = SigningRequest("fleet", name, make_request(Subject("fleet", Role.NODE, name), self.key))
        membership = site.authority.certify(asked, utc_ns=site.utc_ns, random_bytes=os.urandom)
        self.member: Member = self.trust.read(membership.chain)
        self.nonce = b""

    def asks(self, utc_ns: int = 0) -> tuple[str, bytes]:
        """Return topic and message of a new request."""
        self.nonce = os.urandom(NONCE_BYTES)
        utc_ns = utc_ns or self.site.utc_ns
        return ask("fleet", self.name, self.key, self.member.chain, nonce=self.nonce, sequence=0, utc_ns=utc_ns)

    def takes(self, answered: Answered, utc_ns: int = 0) -> Member:
        """Check an answer as a node does, and take the certificate."""
        verdict = read_verdict(answered.answer, self.member, self.nonce, self.trust)
        self.member = check_verdict(verdict, self.member, self.trust, utc_ns or self.site.utc_ns)
        return self.member

    def renews(self) -> Member:
        """Ask, and take the answer."""
        return self.takes(self.site.answer(*self.asks()))


class RenewalSite:
    """One authority at a time that tests set."""

    def __init__(self, node_days: int = 90) -> None:
        self.utc_ns = START
        self.ledger, self.root, self.seed = found(
            "fleet", level=3, utc_ns=START, random_bytes=os.urandom, node_days=node_days
        )
        self.authority = Authority(self.ledger, self.seed)
        self.shelf = MemoryShelf()
        self.desk = RenewalDesk(self.authority, self.shelf, random_bytes=os.urandom)

    def later(self, days: float) -> None:
        """Let time pass."""
        self.utc_ns += round(days * DAY_NS)

    def answer(self, where: str, message: bytes) -> Answered:
        """Have the authority answer a message."""
        return self.desk.decide(self.desk.admit(message, where, self.utc_ns), self.utc_ns)

    def box(self, name: str = "box") -> Box:
        """Make a member."""
        return Box(self, name)


def crafted(
    box: Box,
    *,
    named: str = "",
    asking: SigningKey | None = None,
    where: str = "",
    lasts_ns: int = 60 * 10**9,
    body: msgspec.Struct | None = None,
) -> tuple[str, bytes]:
    """Return a request as an attacker who has the box's key would make it."""
    name = named or box.name
    where = where or topic("fleet", box.name, Channel.RENEWAL)
    der = make_request(Subject("fleet", Role.NODE, name), asking or box.key)
    request = body or RenewalRequest(SigningRequest("fleet", name, der), os.urandom(NONCE_BYTES))
    utc_ns = box.site.utc_ns
    header = Header(where, box.name, 0, purpose_of(type(request)), utc_ns, utc_ns + lasts_ns)
    return where, sign_envelope(header, request, box.key, box.member.chain)
