"""Revoked devices: the list that a node signs, and what a peer makes of it and of a device that comes from there.

A list counts until its serial is passed. Once it is older than its maximum age, it is still believed in what it
revokes, but nothing privileged is done for devices of that node any more: somebody may be withholding the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
from cryptography import x509

from qedge.base.errors import QedgeError
from qedge.crypto.certificates import subject_of
from qedge.crypto.keys import PublicKey
from qedge.crypto.model import Role, Subject
from qedge.crypto.trust import Trust
from qedge.devices.enrolment.authority import DELEGATION_PURPOSE, NodeIdentity, is_own_certificate, signed_by
from qedge.wire.gateway import (
    MAX_LISTED_REVOCATIONS,
    DeviceCredentials,
    DeviceDelegation,
    DeviceRevocations,
    RevokedDevice,
    SignedByNode,
)

REVOCATIONS_PURPOSE: Final = "device-revocations"
GRACE_S: Final = 15.0
"""How long a list may be under way after the birth that speaks of it."""

_ENCODE: Final = msgspec.msgpack.Encoder().encode
T = TypeVar("T", DeviceRevocations, DeviceDelegation)


def sign_list(identity: NodeIdentity, serial: int, utc_ns: int, revoked: list[RevokedDevice]) -> SignedByNode:
    """Sign the list of a node; what is beyond its size is left out, and the list says that it is not complete."""
    entries = tuple(revoked[:MAX_LISTED_REVOCATIONS])
    said = DeviceRevocations(
        identity.fleet, identity.node, serial, utc_ns, entries, complete=len(entries) == len(revoked)
    )
    return signed_by(identity, _ENCODE(said), REVOCATIONS_PURPOSE)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A device of another node, as its credentials say."""

    node: str
    device: str
    public_key: PublicKey


class PeerDevices:
    """What is known of the devices of other nodes of the fleet.

    `now_ns` is the boot-time clock: what has waited here for long has done so though the wall clock was set back.
    """

    def __init__(self, trust: Trust, max_age_s: float) -> None:
        self._trust = trust
        self._max_age_ns = round(max_age_s * 1e9)
        self._lists: dict[str, tuple[DeviceRevocations, int, int]] = {}
        self._revoked: dict[str, frozenset[bytes]] = {}
        self._announced: Mapping[str, int] = {}
        self._behind: dict[str, int] = {}

    def check(self, signed: SignedByNode, utc_ns: int, node: str = "") -> DeviceRevocations | None:
        """Read a list, of `node` where that is set; None where it is not newer than the one known. Raises `auth.*`.

        Takes a fraction of a millisecond for the signature, and nothing but a look at the serial for an old list.
        """
        found = _decode(signed.body, DeviceRevocations)
        if node and found.node != node:
            raise _untrusted("a node speaks for another")
        if found.serial <= self.serial(found.node):
            return None
        return self._read(signed, DeviceRevocations, REVOCATIONS_PURPOSE, utc_ns)

    def learn(self, found: DeviceRevocations, utc_ns: int, now_ns: int) -> bool:
        """Take a list that was checked; says whether it is newer than the one known."""
        if found.serial <= self.serial(found.node):
            return False
        # One with a time to come would never be too old: it counts from now.
        self._lists[found.node] = (msgspec.structs.replace(found, entries=()), min(found.utc_ns, utc_ns), now_ns)
        self._revoked[found.node] = frozenset(each.key_id for each in found.entries)
        if found.serial >= self._announced.get(found.node, 0):
            self._behind.pop(found.node, None)
        return True

    def take(self, signed: SignedByNode, utc_ns: int, now_ns: int) -> bool:
        """Check a list and take it; says whether it is newer than the one known. Raises `auth.*`."""
        found = self.check(signed, utc_ns)
        return found is not None and self.learn(found, utc_ns, now_ns)

    def serial(self, node: str) -> int:
        """Return the serial of the newest list of a node; 0 where there is none."""
        known = self._lists.get(node)
        return known[0].serial if known is not None else 0

    def expect(self, announced: Mapping[str, int], now_ns: int) -> None:
        """Hear which lists nodes say in their births that there are; 0: the node takes no devices."""
        self._announced = dict(announced)
        late = {node for node, serial in announced.items() if serial > self.serial(node)}
        self._behind = {node: self._behind.get(node, now_ns) for node in late}

    def missing(self, now_ns: int, after_s: float) -> list[str]:
        """Name the nodes whose newest list should have come since `after_s`: somebody may be withholding it."""
        return [node for node, since in self._behind.items() if now_ns - since >= after_s * 1e9]

    def require_fresh(self, node: str, utc_ns: int, now_ns: int) -> None:
        """Raise `device.stale_revocations` where nothing privileged may be done for a node and its devices."""
        known = self._lists.get(node)
        if known is None and self._announced.get(node) == 0:
            return
        fresh = (
            known is not None and known[0].complete and max(utc_ns - known[1], now_ns - known[2]) <= self._max_age_ns
        )
        if not fresh or node in self.missing(now_ns, GRACE_S):
            raise QedgeError(
                "device.stale_revocations",
                f"The list of revoked devices of {node} is missing or too old.",
                fix="Is the node connected? It signs a new list every few hours.",
                node=node,
            )

    def verify(self, credentials: DeviceCredentials, utc_ns: int, now_ns: int, *, privileged: bool) -> Visitor:
        """Check a device of another node; raises `auth.*`, and `device.stale_revocations` for privileged things."""
        said = self._read(credentials.delegation, DeviceDelegation, DELEGATION_PURPOSE, utc_ns)
        if not is_own_certificate(credentials.certificate, said.authority):
            raise _untrusted("the certificate of a device is not by its node")
        certificate = x509.load_der_x509_certificate(credentials.certificate)
        subject = subject_of(certificate.extensions)
        if subject is None or subject != Subject(self._trust.fleet, Role.DEVICE, subject.name):
            raise _untrusted("the certificate is of no device of the fleet")
        seconds = utc_ns // 1_000_000_000
        if not certificate.not_valid_before_utc.timestamp() <= seconds <= certificate.not_valid_after_utc.timestamp():
            raise _untrusted("the certificate of a device is not valid now")
        public_key = PublicKey(certificate.public_key())
        if bytes.fromhex(public_key.key_id) in self._revoked.get(said.node, ()):
            raise QedgeError("auth.revoked", f"The device {subject.name} of {said.node} was revoked.")
        if privileged:
            self.require_fresh(said.node, utc_ns, now_ns)
        return Visitor(said.node, subject.name, public_key)

    def _read(self, signed: SignedByNode, kind: type[T], purpose: str, utc_ns: int) -> T:
        found = _decode(signed.body, kind)
        member = self._trust.verify(signed.chain, utc_ns, name=found.node)
        if found.fleet != self._trust.fleet:
            raise _untrusted("it is of another fleet")
        member.public_key.verify(signed.signature, signed.body, purpose)
        return found


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QedgeError("auth.bad_signature", "What a node says of its devices cannot be read.") from error


def _untrusted(why: str) -> QedgeError:
    return QedgeError("auth.untrusted", f"A device of another node is not believed: {why}.")
