"""Who this node is: the identity in its database, made on the first start, replaced when it joins a fleet.

A box without a fleet is a fleet of one, labelled standalone: its authority lives for the moment in which it certifies
the node, and is then forgotten, so nobody can ever be added to it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.certificates import make_issuing, make_leaf, make_request, make_root
from qedge.crypto.joining import Invitation
from qedge.crypto.joining import make_request as make_join_request
from qedge.crypto.keys import SigningKey, generate
from qedge.crypto.model import Member, Role, Subject
from qedge.crypto.signed import ShownChain
from qedge.crypto.trust import Trust, pin
from qedge.mesh.certificate_watch import renewal_due_utc_ns
from qedge.store.store import Store
from qedge.wire.trust import Anchor, IdentityView, JoinRequest, Membership, NewIdentity, SigningRequest

STANDALONE_DAYS: Final = 36_500
_BROKER_ENTRY: Final = "broker.password"
_ALGORITHMS: Final = {3: "ml-dsa-65", 5: "ml-dsa-87"}
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_JOIN_ENTRY: Final = "join.request"
_JOIN_REQUEST: Final = msgspec.msgpack.Decoder(JoinRequest)
_MEMBERSHIP: Final = msgspec.msgpack.Decoder(Membership)


@dataclass(slots=True)
class LocalIdentity:
    """The node's own key and what certifies it. `trust` is shared by everything that checks certificates.

    `shown` is the chain for those who sign or show it as long as the node runs, through renewals.
    """

    fleet: str
    node: str
    standalone: bool
    key: SigningKey
    membership: Membership
    trust: Trust
    member: Member
    shown: ShownChain = field(init=False)
    on_renewed: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]], init=False)
    """Called after each renewal, for those who have to do more than show another chain."""

    def __post_init__(self) -> None:
        self.shown = ShownChain(self.membership.chain)

    def renewed(self, membership: Membership, member: Member) -> None:
        """Go on with the next certificate of the same key; the database has it already."""
        self.membership, self.member = membership, member
        self.shown.now = membership.chain
        for hook in self.on_renewed:
            hook()

    def view(self, broker: str = "") -> IdentityView:
        """Describe the identity; nothing secret is in it."""
        return IdentityView(
            fleet=self.fleet,
            node=self.node,
            standalone=self.standalone,
            key_id=self.key.key_id,
            algorithm=self.key.algorithm,
            pin=pin(self.membership.anchor).hex(),
            valid_from_utc_ns=self.member.not_before_utc_ns,
            valid_until_utc_ns=self.member.not_after_utc_ns,
            revocation_serial=self.trust.serial,
            broker=broker,
            chain=self.membership.chain,
            renewal_due_utc_ns=0 if self.standalone else renewal_due_utc_ns(self.member),
        )


@dataclass(frozen=True, slots=True)
class _Row:
    fleet: str
    node: str
    standalone: bool
    algorithm: str
    seed: bytes
    membership: bytes

    def __repr__(self) -> str:
        return f"<identity {self.fleet}/{self.node}>"


async def load_identity(store: Store, fleet: str, node: str, utc_ns: int, random_bytes: RandomBytes) -> LocalIdentity:
    """Return the node's identity; a box without one, or whose names in a fleet of one were changed, gets a new one.

    Raises `auth.untrusted` or `auth.revoked` where the membership in the database does not hold any more.
    """
    row = await store.read(lambda connection: _read(connection, "current"))
    if row is None or (row.standalone and (row.fleet, row.node) != (fleet, node)):
        row = made = await asyncio.to_thread(_standalone, fleet, node, utc_ns, random_bytes)
        await store.write(lambda connection: _write(connection, "current", made))
    key = SigningKey.from_seed(row.algorithm, row.seed)
    membership = _MEMBERSHIP.decode(row.membership)
    trust = Trust(membership.anchor, row.fleet)
    home = row.fleet
    for signed in (membership.revocations, await store.read(lambda connection: _read_revocations(connection, home))):
        if signed:
            trust.take_revocations(signed, utc_ns)
    # An expired or revoked certificate must not keep the box from its local work; its peers will refuse it.
    member = trust.read(membership.chain)
    if utc_ns < member.not_before_utc_ns:  # a clock that lost the time: the one before is perhaps valid to it
        earlier = await store.read(lambda connection: _read(connection, "previous"))
        if earlier is not None:
            before = _MEMBERSHIP.decode(earlier.membership)
            if trust.read(before.chain).not_before_utc_ns <= utc_ns:
                membership, member = before, trust.read(before.chain)
    return LocalIdentity(row.fleet, row.node, row.standalone, key, membership, trust, member)


async def request_identity(store: Store, wanted: NewIdentity, random_bytes: RandomBytes) -> SigningRequest:
    """Make a key for a place in a fleet and keep it until its certificate comes; an earlier such key is forgotten."""
    algorithm = _ALGORITHMS.get(wanted.level)
    if algorithm is None:
        raise QedgeError("fleet.bad_level", f"There is no level {wanted.level}.", fix="Use 3 or 5.")
    key = generate(algorithm, random_bytes)
    row = _Row(wanted.fleet, wanted.node, False, algorithm, key.seed, b"")
    await store.write(lambda connection: _write(connection, "pending", row))
    subject = Subject(wanted.fleet, Role.NODE, wanted.node)
    return SigningRequest(wanted.fleet, wanted.node, make_request(subject, key))


async def request_to_join(store: Store, invitation: Invitation, node: str, random_bytes: RandomBytes) -> JoinRequest:
    """Make the request of a box that was invited, or return the one that it made for the same invitation before.

    An invitation is good for one request only: a box that died after it had asked has to ask with the same one again.
    """
    kept = await store.get_meta(_JOIN_ENTRY)
    pending = await store.read(lambda connection: _read(connection, "pending"))
    if kept and pending is not None:
        request = _JOIN_REQUEST.decode(bytes.fromhex(kept))
        if request.token == invitation.token and (request.request.fleet, request.request.node) == (
            invitation.fleet,
            node,
        ):
            return request
    wanted = NewIdentity(invitation.fleet, node, invitation.level)
    request = make_join_request(invitation, await request_identity(store, wanted, random_bytes), random_bytes)
    await store.set_meta(_JOIN_ENTRY, _ENCODE(request).hex())
    return request


async def adopt_membership(store: Store, membership: Membership, utc_ns: int) -> None:
    """Make the pending key, or the present one with a new certificate, the node's identity from its next start on.

    Raises `auth.*` where the membership does not hold, `fleet.not_requested` where it is for another key.
    """
    trust = Trust(membership.anchor, membership.anchor.fleet)
    if membership.revocations:
        trust.take_revocations(membership.revocations, utc_ns)
    member = trust.verify(membership.chain, utc_ns)
    for state in ("pending", "current"):
        row = await store.read(partial(_read, state=state))
        if row is not None and SigningKey.from_seed(row.algorithm, row.seed).key_id == member.key_id:
            new = _Row(member.subject.fleet, member.subject.name, False, row.algorithm, row.seed, _ENCODE(membership))
            await store.write(partial(_adopt, row=new))
            return
    raise QedgeError(
        "fleet.not_requested",
        "The certificate is for a key that this node does not have.",
        fix="Make a new request with `qedge node enrol request`.",
    )


async def keep_renewal(store: Store, membership: Membership) -> None:
    """Write down the next certificate of the present key; the one before is kept beside it until the next renewal."""
    await store.write(lambda connection: _keep_renewal(connection, _ENCODE(membership)))


async def keep_revocations(store: Store, fleet: str, serial: int, signed: bytes) -> None:
    """Keep the newest list, so that a restarted node does not forget whom to refuse."""
    await store.write(lambda connection: _write_revocations(connection, fleet, serial, signed))


async def broker_password(store: Store, random_hex: Callable[[int], str]) -> str:
    """Return the password of the private broker, which joined boxes know and which therefore never changes."""
    password = await store.get_meta(_BROKER_ENTRY)
    if not password:
        password = random_hex(24)
        await store.set_meta(_BROKER_ENTRY, password)
    return password


def _standalone(fleet: str, node: str, utc_ns: int, random_bytes: RandomBytes) -> _Row:
    root, issuing = generate("ml-dsa-87", random_bytes), generate("ml-dsa-65", random_bytes)
    key = generate("ml-dsa-65", random_bytes)
    root_der = make_root(fleet, root, utc_ns, random_bytes, STANDALONE_DAYS)
    issuing_der = make_issuing(fleet, issuing.public_key, root_der, root, utc_ns, random_bytes, STANDALONE_DAYS)
    subject = Subject(fleet, Role.NODE, node)
    leaf = make_leaf(subject, key.public_key, issuing_der, issuing, utc_ns, STANDALONE_DAYS, random_bytes)
    membership = Membership(Anchor(fleet, root_der), (leaf, issuing_der))
    return _Row(fleet, node, True, key.algorithm, key.seed, _ENCODE(membership))


def _read(connection: sqlite3.Connection, state: str) -> _Row | None:
    row = connection.execute(
        "SELECT fleet, node, standalone, algorithm, seed, membership FROM identities WHERE state = ?", (state,)
    ).fetchone()
    return _Row(row[0], row[1], bool(row[2]), row[3], row[4], row[5]) if row is not None else None


def _write(connection: sqlite3.Connection, state: str, row: _Row) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO identities (state, fleet, node, standalone, algorithm, seed, membership)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (state, row.fleet, row.node, row.standalone, row.algorithm, row.seed, row.membership),
    )


def _keep_renewal(connection: sqlite3.Connection, membership: bytes) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO identities (state, fleet, node, standalone, algorithm, seed, membership)"
        " SELECT 'previous', fleet, node, standalone, algorithm, seed, membership FROM identities"
        " WHERE state = 'current'"
    )
    connection.execute("UPDATE identities SET membership = ? WHERE state = 'current'", (membership,))


def _adopt(connection: sqlite3.Connection, row: _Row) -> None:
    _write(connection, "current", row)
    connection.execute("DELETE FROM identities WHERE state <> 'current'")
    connection.execute("DELETE FROM meta WHERE key = ?", (_JOIN_ENTRY,))
    connection.execute("DELETE FROM revocations WHERE fleet <> ?", (row.fleet,))


def _read_revocations(connection: sqlite3.Connection, fleet: str) -> bytes:
    row = connection.execute("SELECT message FROM revocations WHERE fleet = ?", (fleet,)).fetchone()
    return bytes(row[0]) if row is not None else b""


def _write_revocations(connection: sqlite3.Connection, fleet: str, serial: int, signed: bytes) -> None:
    connection.execute(
        "INSERT INTO revocations (fleet, serial, message) VALUES (?, ?, ?) ON CONFLICT (fleet) DO UPDATE SET"
        " serial = excluded.serial, message = excluded.message WHERE excluded.serial > serial",
        (fleet, serial, signed),
    )
