"""Renewal of certificates without a person: what a node asks, what the authority answers, how each is checked. Pure.

A request is good for an hour, once, for the node that signed it with a certificate that still counts, and only for
the key and the name of that certificate. So whoever has an old request, or a key that was revoked, gets nothing; and
whoever has a node's key gets no more than the node has already, and nothing once that key is revoked.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from qedge.base.errors import ERROR_CODES, QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.authority import Authority, Issued
from qedge.crypto.certificates import make_request, read_request
from qedge.crypto.keys import SigningKey
from qedge.crypto.model import Member, Role, Subject
from qedge.crypto.signed import ShowsChain, open_signed, sign_envelope
from qedge.crypto.trust import Trust
from qedge.wire.envelope import Header, bad_message, purpose_of
from qedge.wire.renewal import RENEWAL_PURPOSE, RenewalAnswer, RenewalRequest, RenewalVerdict
from qedge.wire.topics import Channel, topic
from qedge.wire.trust import SigningRequest

NONCE_BYTES: Final = 16
REQUEST_LASTS_NS: Final = 3600 * 1_000_000_000
"""How long a request counts; also how far the clocks of node and authority may differ."""

EARLIEST: Final = 1 / 2
"""Share of a certificate's life before which nobody needs the next one."""

PERIOD: Final = 1 / 10
"""Share of a certificate's life in which a node gets one new certificate, and after that the same one again."""

LEAST_PAUSE_NS: Final = 5 * 1_000_000_000
"""A node that asks again within this time is not answered: one that was taken over must not keep others waiting."""

_MOST_NONCES: Final = 100_000
_SECOND_NS: Final = 1_000_000_000
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_VERDICT: Final = msgspec.msgpack.Decoder(RenewalVerdict)


def ask(
    fleet: str, node: str, key: SigningKey, chain: ShowsChain, *, nonce: bytes, sequence: int, utc_ns: int
) -> tuple[str, bytes]:
    """Make a request; returns its topic and its envelope. Some ms."""
    where = topic(fleet, node, Channel.RENEWAL)
    request = SigningRequest(fleet, node, make_request(Subject(fleet, Role.NODE, node), key))
    header = Header(where, node, sequence, purpose_of(RenewalRequest), utc_ns, utc_ns + REQUEST_LASTS_NS)
    return where, sign_envelope(header, RenewalRequest(request, nonce), key, chain)


def read_verdict(answer: RenewalAnswer, present: Member, nonce: bytes, trust: Trust) -> RenewalVerdict:
    """Return what the authority says to the request with `nonce`.

    Raises `auth.untrusted` or `auth.bad_signature` for what it did not sign, or not for this request and node.
    """
    trust.check_authority(answer.issuer, answer.signature, answer.body, RENEWAL_PURPOSE)
    try:
        verdict = _VERDICT.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QedgeError("auth.bad_signature", "A verdict on a renewal cannot be read.") from error
    me = present.subject
    if (verdict.fleet, verdict.node) != (me.fleet, me.name) or not hmac.compare_digest(verdict.nonce, nonce):
        raise QedgeError("auth.untrusted", "A verdict is for another request than this node's last one.")
    return verdict


def check_verdict(verdict: RenewalVerdict, present: Member, trust: Trust, utc_ns: int) -> Member:
    """Return the next certificate of a verdict.

    Raises the authority's own error of `fleet.*` and `auth.*` where it refused, else `fleet.renewal_refused`;
    `auth.untrusted` or `auth.revoked` for a certificate that is not valid by this node's clock, is for another name or
    key, or ends no later than the present one.
    """
    if not verdict.chain:
        known = verdict.code in ERROR_CODES and verdict.code.startswith(("fleet.", "auth."))
        raise QedgeError(verdict.code if known else "fleet.renewal_refused", verdict.message or "It gave no reason.")
    member = trust.verify(verdict.chain, utc_ns, name=present.subject.name)
    if member.key_id != present.key_id:
        raise QedgeError("auth.untrusted", "The certificate is not for this node's key.")
    if member.not_after_utc_ns <= present.not_after_utc_ns:
        raise QedgeError("auth.untrusted", "The certificate ends no later than the present one.")
    return member


class Shelf(Protocol):
    """Where the authority keeps what it has made; on the disk when a call returns."""

    def kept(self, node: str) -> tuple[bytes, ...]:
        """Return the chain that was last made for a node; empty where there is none."""
        ...

    def keep(self, node: str, chain: tuple[bytes, ...]) -> None:
        """Keep the chain that was made for a node."""
        ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that a member has just made: what it asks, its certificate, where it came, when it was sent."""

    asked: RenewalRequest
    shown: Member
    where: str
    sent_utc_ns: int


@dataclass(frozen=True, slots=True)
class Answered:
    """What to publish, where, and what is to be noted of it. `anew`: a certificate was made, not given again."""

    node: str
    where: str
    answer: RenewalAnswer
    anew: bool = False
    code: str = ""
    reason: str = ""


def judge(holder: Issued | None, shown: Member, utc_ns: int, *, again: bool) -> None:
    """Say whether a node may have a certificate now; `again`: the newest one is kept and can be given once more.

    `holder` is what the ledger last certified under the node's name; `shown` is what the node has. Raises
    `fleet.no_member`, `auth.revoked`, `fleet.not_due`.
    """
    name = shown.subject.name
    if holder is None:
        raise QedgeError("fleet.no_member", f"The authority does not know {name}.", fix="Was its folder restored?")
    if holder.revoked_utc_ns or holder.key_id != shown.key_id:
        raise QedgeError("auth.revoked", f"The key of {name} counts no more.", fix="Let the box join again.")
    life_ns = shown.not_after_utc_ns - shown.not_before_utc_ns
    if utc_ns < shown.not_before_utc_ns + life_ns * EARLIEST:
        raise QedgeError("fleet.not_due", f"The certificate of {name} is not due yet.")
    # One that was made by a clock in the future is no reason to keep the node waiting.
    if not again and holder.issued_utc_ns <= utc_ns < _made_ns(shown, holder) + life_ns * PERIOD:
        raise QedgeError("fleet.not_due", f"{name} was given a certificate a short while ago.")


class RenewalDesk:
    """The authority's side: admits messages as they came, and answers those that deserve it."""

    def __init__(self, authority: Authority, shelf: Shelf, *, random_bytes: RandomBytes) -> None:
        self.authority = authority
        self._shelf = shelf
        self._random_bytes = random_bytes
        self._trust = Trust(authority.ledger.anchor, authority.fleet)
        self._nonces: dict[bytes, int] = {}
        self._answered: dict[str, int] = {}

    def admit(self, message: bytes, where: str, utc_ns: int) -> Admitted:
        """Look whether a message that came on the topic `where` deserves an answer; once for each. About a ms.

        It takes no newer ledger than the one that is there. Raises `bus.bad_message` and `auth.*` for what is not a
        request that a member who counts has just made.
        """
        trust = self._trust
        trust.revoked_keys = frozenset(each.key_id for each in self.authority.ledger.issued if each.revoked_utc_ns)
        header, body, shown = open_signed(message, where, RenewalRequest, trust, utc_ns)
        node = shown.subject.name
        if where != topic(self.authority.fleet, node, Channel.RENEWAL):
            raise bad_message("it is not on the topic of the node that signed it")
        if not header.utc_ns <= header.expires_utc_ns <= header.utc_ns + REQUEST_LASTS_NS:
            raise bad_message("it counts for longer than a request may")
        self._take_nonce(body.nonce, header.expires_utc_ns, utc_ns)
        if 0 <= utc_ns - self._answered.get(node, 0) < LEAST_PAUSE_NS:
            raise bad_message("its node asks too often")
        self._answered[node] = utc_ns
        return Admitted(body, shown, where, header.utc_ns)

    def decide(self, admitted: Admitted, utc_ns: int) -> Answered:
        """Answer a request. Some ms. The ledger has to be the newest, and to be saved before the answer leaves."""
        asked, shown, node = admitted.asked, admitted.shown, admitted.shown.subject.name
        back = _back(admitted.where)
        try:
            if admitted.sent_utc_ns > utc_ns + REQUEST_LASTS_NS:
                raise QedgeError("fleet.renewal_refused", f"The clock of {node} is ahead.", fix="Set its clock.")
            chain, anew = self._chain_for(asked.request, shown, utc_ns)
        except QedgeError as error:
            if error.code == "fleet.folder":
                raise
            verdict = self._verdict(node, asked, utc_ns, code=error.code, message=str(error)[:500])
            return Answered(node, back, verdict, code=error.code, reason=error.message)
        return Answered(node, back, self._verdict(node, asked, utc_ns, chain=chain), anew)

    def _chain_for(self, asked: SigningRequest, shown: Member, utc_ns: int) -> tuple[tuple[bytes, ...], bool]:
        subject, public_key = read_request(asked.request)
        if subject != shown.subject or asked.node != subject.name or public_key.key_id != shown.key_id:
            raise QedgeError("auth.bad_request", "The request is for another name or key than the node's own.")
        holder = next((each for each in self.authority.members() if each.node == subject.name), None)
        kept = self._kept(shown, utc_ns)
        judge(holder, shown, utc_ns, again=bool(kept))
        if kept:
            return kept, False
        before = self.authority.ledger
        made = self.authority.certify(asked, utc_ns=utc_ns, random_bytes=self._random_bytes).chain
        if self._trust.read(made).not_after_utc_ns <= shown.not_after_utc_ns:
            self.authority.ledger = before
            raise QedgeError(
                "fleet.issuing_ends",
                "The authority's issuing certificate ends too soon for another renewal.",
                fix="Make a new issuing key: `qedge fleet reissue`.",
            )
        # Kept before the ledger is saved: what that tells of can then be given again, whatever happens in between.
        self._shelf.keep(subject.name, made)
        return made, True

    def _kept(self, shown: Member, utc_ns: int) -> tuple[bytes, ...]:
        """Return the chain that was made for a node and that it does not have, where it may still be given."""
        chain = self._shelf.kept(shown.subject.name)
        if not chain:
            return ()
        try:
            member = self._trust.verify(chain, utc_ns, name=shown.subject.name)
        except QedgeError:
            return ()
        known = any(_is_of(each, member) for each in self.authority.ledger.issued)
        fresh = utc_ns < member.not_before_utc_ns + (member.not_after_utc_ns - member.not_before_utc_ns) * EARLIEST
        newer = member.not_after_utc_ns > shown.not_after_utc_ns
        return chain if known and fresh and newer and member.key_id == shown.key_id else ()

    def _take_nonce(self, nonce: bytes, expires_utc_ns: int, utc_ns: int) -> None:
        if nonce in self._nonces:
            raise bad_message("it was answered before")
        if len(self._nonces) >= _MOST_NONCES:
            self._nonces = {each: until for each, until in self._nonces.items() if until > utc_ns}
        if len(self._nonces) >= _MOST_NONCES:
            raise bad_message("too many requests came in a short while")
        # As long as the request counts by this clock, also where the node's is ahead.
        self._nonces[nonce] = max(expires_utc_ns, utc_ns + REQUEST_LASTS_NS)

    def _verdict(
        self,
        node: str,
        asked: RenewalRequest,
        utc_ns: int,
        *,
        chain: tuple[bytes, ...] = (),
        code: str = "",
        message: str = "",
    ) -> RenewalAnswer:
        verdict = RenewalVerdict(self.authority.fleet, node, asked.nonce, utc_ns, chain, code, message)
        return self.authority.sign_renewal(_ENCODE(verdict))


def _made_ns(shown: Member, holder: Issued) -> int:
    """Return when the newest certificate was made, where the node shows an older one; else long ago."""
    is_newest = holder.until_utc_ns <= shown.not_after_utc_ns + _SECOND_NS
    return 0 if is_newest else holder.issued_utc_ns


def _is_of(entry: Issued, member: Member) -> bool:
    same = entry.node == member.subject.name and entry.key_id == member.key_id
    return same and abs(entry.until_utc_ns - member.not_after_utc_ns) < _SECOND_NS


def _back(where: str) -> str:
    return f"{where.rsplit('/', 1)[0]}/{Channel.RENEWED}"
