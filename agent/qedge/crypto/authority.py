"""A fleet's authority: what it certified, and the keys with which it does. Pure; the files stand in `authority_files`.

The root key signs nothing but itself, the issuing certificate and the next one of these; the issuing key certifies
members and signs lists of revoked keys. Neither is ever on a node's disk in the clear, nor in a daemon.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Final, Protocol

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes, is_name
from qedge.crypto.certificates import make_issuing, make_leaf, make_root, read_request
from qedge.crypto.keys import SigningKey, context_of, generate
from qedge.crypto.model import Role, Subject
from qedge.crypto.trust import Trust, sign_policy, sign_revocations
from qedge.wire.commands import OperatorRole
from qedge.wire.mesh import Name, Short
from qedge.wire.policy import PolicyBundle
from qedge.wire.renewal import RENEWAL_PURPOSE, RenewalAnswer
from qedge.wire.trust import Anchor, BrokerAddress, Der, Membership, Revocations, Revoked, SigningRequest

SECOND_ALGORITHM: Final = "slh-dsa-sha2-128s"
ANCHOR_PURPOSE: Final = "anchor"
ALGORITHMS: Final = {3: "ml-dsa-65", 5: "ml-dsa-87"}
NODE_DAYS: Final = 90
ISSUING_DAYS: Final = 730
ROOT_DAYS: Final = 7300
_DAY_NS: Final = 86_400 * 1_000_000_000


class SecondSigner(Protocol):
    """Signatures of another family than ML-DSA for the root, made outside this process."""

    def keygen(self) -> tuple[bytes, bytes]:
        """Return public and secret key."""
        ...

    def sign(self, secret_key: bytes, message: bytes, context: bytes) -> bytes:
        """Sign."""
        ...


class Issued(msgspec.Struct, frozen=True):
    """One certificate of the ledger. `revoked_utc_ns` 0: it counts."""

    node: Name
    key_id: Short
    issued_utc_ns: int
    until_utc_ns: int
    revoked_utc_ns: int = 0
    reason: Short = ""
    role: Role = Role.NODE
    may: tuple[OperatorRole, ...] = ()
    """What an operator may order."""


class Ledger(msgspec.Struct, frozen=True, tag_field="type", tag="authority-ledger/1"):
    """What is public of an authority, and all it has certified."""

    anchor: Anchor
    issuing: Der
    level: Annotated[int, msgspec.Meta(ge=3, le=5)]
    node_days: Annotated[int, msgspec.Meta(ge=1, le=3660)] = NODE_DAYS
    revocation_serial: int = 0
    issued: tuple[Issued, ...] = ()
    policy_serial: int = 0


class RootSecret(msgspec.Struct, frozen=True, tag_field="type", tag="root-secret/1"):
    """The root's seed, and the secret key of the second signature. Kept apart, best offline."""

    seed: bytes
    second_key: bytes = b""

    def __repr__(self) -> str:
        return "RootSecret()"


def found(
    fleet: str,
    *,
    level: int,
    utc_ns: int,
    random_bytes: RandomBytes,
    second: SecondSigner | None = None,
    node_days: int = NODE_DAYS,
) -> tuple[Ledger, RootSecret, bytes]:
    """Found a fleet: returns its public part, the root's secret, and the seed of the issuing key."""
    if level not in ALGORITHMS:
        raise QedgeError("fleet.bad_level", f"There is no level {level}.", fix="Use 3 or 5.")
    if not is_name(fleet) or fleet.startswith("_"):
        raise QedgeError("fleet.bad_name", f"{fleet!r} can be no fleet.", fix="Use letters, digits, - and _.")
    root, issuing = generate("ml-dsa-87", random_bytes), generate(ALGORITHMS[level], random_bytes)
    root_der = make_root(fleet, root, utc_ns, random_bytes, ROOT_DAYS)
    issuing_der = make_issuing(fleet, issuing.public_key, root_der, root, utc_ns, random_bytes, ISSUING_DAYS)
    second_secret = b""
    anchor = Anchor(fleet, root_der)
    if second is not None:
        public, second_secret = second.keygen()
        signature = second.sign(second_secret, root_der, context_of(ANCHOR_PURPOSE))
        anchor = Anchor(fleet, root_der, SECOND_ALGORITHM, public, signature)
    return Ledger(anchor, issuing_der, level, node_days), RootSecret(root.seed, second_secret), issuing.seed


def newest(ledger: Ledger, role: Role = Role.NODE) -> list[Issued]:
    """Return the newest certificate of every name among nodes or operators, in the order of names."""
    by_name = {entry.node: entry for entry in ledger.issued if entry.role is role}
    return [by_name[name] for name in sorted(by_name)]


class Authority:
    """An authority whose issuing key is open. Every change makes a new `ledger`, which `save` writes down first."""

    def __init__(self, ledger: Ledger, issuing_seed: bytes) -> None:
        self.ledger = ledger
        self._key = SigningKey.from_seed(ALGORITHMS[ledger.level], issuing_seed)

    def __repr__(self) -> str:
        return f"<Authority {self.fleet}>"

    @property
    def fleet(self) -> str:
        """Name of the fleet."""
        return self.ledger.anchor.fleet

    def members(self) -> Sequence[Issued]:
        """Return the newest certificate of every name, in the order of names."""
        return newest(self.ledger)

    def certify(
        self,
        request: SigningRequest,
        *,
        utc_ns: int,
        random_bytes: RandomBytes,
        replace: bool = False,
        broker: BrokerAddress | None = None,
    ) -> Membership:
        """Make a member of the box that asks, or renew it.

        Raises `auth.bad_request` for a malformed request, one for another fleet or of another level,
        `fleet.name_taken` where the name belongs to another key (with `replace` that key is revoked).
        """
        subject, public_key = read_request(request.request)
        if subject != Subject(self.fleet, Role.NODE, request.node) or request.fleet != self.fleet:
            raise QedgeError(
                "auth.bad_request", f"The request is for {subject.uri}, not for a node of {self.fleet}.", fix=_ASK_AGAIN
            )
        if subject.name.startswith("_"):
            raise QedgeError("fleet.bad_name", "Names of nodes do not begin with _.", fix="Choose another name.")
        if public_key.algorithm != ALGORITHMS[self.ledger.level]:
            raise QedgeError(
                "auth.bad_request",
                f"The request has a key of {public_key.algorithm}; this fleet uses {ALGORITHMS[self.ledger.level]}.",
                fix=_ASK_AGAIN,
            )
        holder = next((each for each in self.members() if each.node == subject.name and not each.revoked_utc_ns), None)
        if holder is not None and holder.key_id != public_key.key_id:
            if not replace:
                raise QedgeError(
                    "fleet.name_taken",
                    f"Another box of the fleet is called {subject.name}.",
                    fix="Choose another name with --name, or replace that box with --replace.",
                )
            self._note_revoked(holder.key_id, "replaced", utc_ns)
        days = self.ledger.node_days
        leaf = make_leaf(subject, public_key, self.ledger.issuing, self._key, utc_ns, days, random_bytes)
        entry = Issued(subject.name, public_key.key_id, utc_ns, utc_ns + days * _DAY_NS)
        self.ledger = msgspec.structs.replace(self.ledger, issued=(*self.ledger.issued, entry))
        return Membership(self.ledger.anchor, (leaf, self.ledger.issuing), broker, self.revocations(utc_ns))

    def certify_operator(
        self,
        request: SigningRequest,
        may: Collection[OperatorRole],
        *,
        days: int,
        utc_ns: int,
        random_bytes: RandomBytes,
        replace: bool = False,
    ) -> tuple[bytes, ...]:
        """Make an operator of the person who asks, with the roles `may`; returns the chain, leaf first.

        Raises `auth.bad_request`, `fleet.bad_name`, `fleet.name_taken` as `certify` does.
        """
        subject, public_key = read_request(request.request)
        if subject != Subject(self.fleet, Role.OPERATOR, request.node) or request.fleet != self.fleet:
            raise QedgeError(
                "auth.bad_request", f"The request is for {subject.uri}, no operator of {self.fleet}.", fix=_ASK_AGAIN
            )
        if subject.name.startswith("_") or not may:
            raise QedgeError("fleet.bad_name", "Names of operators do not begin with _, and each has a role.")
        if public_key.algorithm not in ALGORITHMS.values():
            raise QedgeError("auth.bad_request", f"No operator has a key of {public_key.algorithm}.", fix=_ASK_AGAIN)
        holders = newest(self.ledger, Role.OPERATOR)
        holder = next((each for each in holders if each.node == subject.name and not each.revoked_utc_ns), None)
        if holder is not None and holder.key_id != public_key.key_id:
            if not replace:
                raise QedgeError(
                    "fleet.name_taken", f"Another operator is called {subject.name}.", fix="Replace it with --replace."
                )
            self._note_revoked(holder.key_id, "replaced", utc_ns)
        roles = frozenset(may)
        leaf = make_leaf(subject, public_key, self.ledger.issuing, self._key, utc_ns, days, random_bytes, roles=roles)
        until = utc_ns + days * _DAY_NS
        entry = Issued(subject.name, public_key.key_id, utc_ns, until, role=Role.OPERATOR, may=tuple(sorted(roles)))
        self.ledger = msgspec.structs.replace(self.ledger, issued=(*self.ledger.issued, entry))
        return leaf, self.ledger.issuing

    def revoke(self, node: str, reason: str, utc_ns: int, *, role: Role = Role.NODE) -> bytes:
        """Revoke all keys of a node's name or an operator's; returns the new signed list. Raises `fleet.no_member`."""
        keys = {
            each.key_id
            for each in self.ledger.issued
            if each.node == node and each.role is role and not each.revoked_utc_ns
        }
        if not keys:
            raise QedgeError("fleet.no_member", f"{node!r} is no member.", fix="`qedge fleet list` shows all.")
        for key_id in sorted(keys):
            self._note_revoked(key_id, reason, utc_ns)
        return self.revocations(utc_ns)

    def relist(self, utc_ns: int) -> bytes:
        """Sign the list of revoked keys anew under the next serial, so that it does not grow old.

        Save the ledger before the list leaves.
        """
        self.ledger = msgspec.structs.replace(self.ledger, revocation_serial=self.ledger.revocation_serial + 1)
        return self.revocations(utc_ns)

    def revocations(self, utc_ns: int) -> bytes:
        """Return the newest list, signed; empty while nothing was ever revoked."""
        if not self.ledger.revocation_serial:
            return b""
        entries = {
            each.key_id: Revoked(each.node, each.key_id, each.revoked_utc_ns, each.reason)
            for each in self.ledger.issued
            if each.revoked_utc_ns
        }
        listed = Revocations(self.fleet, self.ledger.revocation_serial, utc_ns, tuple(entries.values()))
        return sign_revocations(listed, self._key, self.ledger.issuing)

    def sign_policy(self, text: bytes, *, utc_ns: int, expires_utc_ns: int) -> bytes:
        """Sign a policy for the whole fleet under the next serial; save the ledger before it leaves."""
        serial = self.ledger.policy_serial + 1
        self.ledger = msgspec.structs.replace(self.ledger, policy_serial=serial)
        bundle = PolicyBundle(self.fleet, serial, utc_ns, expires_utc_ns, text)
        return sign_policy(bundle, self._key, self.ledger.issuing)

    def sign_renewal(self, body: bytes) -> RenewalAnswer:
        """Sign a verdict on a renewal; save the ledger before it leaves."""
        return RenewalAnswer(body, self._key.sign(body, RENEWAL_PURPOSE), self.ledger.issuing)

    def check(self) -> None:
        """Raise `auth.untrusted` where issuing key and ledger do not belong together."""
        Trust(self.ledger.anchor, self.fleet).check_issuing(self.ledger.issuing, self._key.key_id)

    def _note_revoked(self, key_id: str, reason: str, utc_ns: int) -> None:
        issued = tuple(
            msgspec.structs.replace(each, revoked_utc_ns=utc_ns, reason=reason) if each.key_id == key_id else each
            for each in self.ledger.issued
        )
        serial = self.ledger.revocation_serial + 1
        self.ledger = msgspec.structs.replace(self.ledger, issued=issued, revocation_serial=serial)


def renew_issuing(ledger: Ledger, root: RootSecret, *, utc_ns: int, random_bytes: RandomBytes) -> tuple[Ledger, bytes]:
    """Make a new issuing key; certificates of the old one stay good until they end."""
    root_key = SigningKey.from_seed("ml-dsa-87", root.seed)
    issuing = generate(ALGORITHMS[ledger.level], random_bytes)
    der = make_issuing(
        ledger.anchor.fleet, issuing.public_key, ledger.anchor.root, root_key, utc_ns, random_bytes, ISSUING_DAYS
    )
    return msgspec.structs.replace(ledger, issuing=der), issuing.seed


_ASK_AGAIN: Final = "Make the request again on the box, for this fleet."
