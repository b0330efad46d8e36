"""Full sessions: a nonce that costs the node no memory, and what it does with the proof. Pure.

The nonce of a CHALLENGE is `issued (8) ‖ HMAC (24)` under a key of this run of the node, over device, ASK and suite:
whoever answers it has got it, nobody can move it to another device or take suites away, and a node that was restarted
knows none of the old. A device's nonces are good once: a later proof has to be over a later nonce.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import Final

from qedge.base.errors import QedgeError
from qedge.devices.enrolment.authority import DeviceAuthority
from qedge.devices.enrolment.vetting import auth_error
from qedge.devices.model import DeviceSession
from qedge.devices.sessions.places import Place
from qedge.devices.sessions.symmetric import rich_session
from qedge.security.model import Subject
from qedge_device import agreement, schedule
from qedge_device.frame import Suite
from qedge_device.messages import Ask, Challenge, Opened, Prove, fields

NONCE_LIFE_NS: Final = 60 * 1_000_000_000
SUITES: Final = (Suite.AES_256_GCM, Suite.CHACHA20_POLY1305)
"""Suites that sessions with devices have, the first preferred."""

_ISSUED_BYTES: Final = 8
_MAC_BYTES: Final = 24


def choose_suite(offered: bytes) -> int:
    """Return the suite that counts; raises `crypto.no_suite` where the device offers none of ours."""
    for suite in SUITES:
        if suite in offered:
            return suite
    raise QedgeError("crypto.refused_algorithm", "A device offers no suite that is allowed.")


class Nonces:
    """Makes nonces of challenges and knows its own again; `key` are 32 random bytes of this run."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, device_id: str, asked: bytes, suite: int, now_ns: int) -> bytes:
        """Make the nonce for an ASK, of which `asked` is the SHA-256."""
        issued = now_ns.to_bytes(_ISSUED_BYTES, "big")
        return issued + self._mac(device_id, asked, suite, issued)

    def check(self, device_id: str, prove: Prove, now_ns: int) -> int:
        """Return when the nonce of a proof was issued; raises `device.refused` where it is old, or not for this."""
        issued = prove.nonce[:_ISSUED_BYTES]
        issued_ns = int.from_bytes(issued, "big")
        good = hmac.compare_digest(prove.nonce[_ISSUED_BYTES:], self._mac(device_id, prove.asked, prove.suite, issued))
        if not good or not 0 <= now_ns - issued_ns <= NONCE_LIFE_NS:
            raise QedgeError("device.refused", f"{device_id} answers another question than it was asked.")
        return issued_ns

    def _mac(self, device_id: str, asked: bytes, suite: int, issued: bytes) -> bytes:
        data = fields(b"qedge/v1 device nonce", device_id.encode(), asked, bytes([suite]), issued)
        return hmac.digest(self._key, data, "sha256")[:_MAC_BYTES]


def challenge(
    place: Place, authority: DeviceAuthority, nonces: Nonces, device_id: str, message: bytes, now_ns: int
) -> bytes:
    """Answer an ASK; costs an HMAC and no memory."""
    ask = Ask.read(message)
    suite = choose_suite(ask.suites)
    nonce = nonces.make(device_id, hashlib.sha256(message).digest(), suite, now_ns)
    kem = b"" if authority.is_newest(ask.kem_id) else authority.statement
    return Challenge(suite, nonce, place.boot, kem).pack()


@dataclass(frozen=True, slots=True)
class Proof:
    """What the node needs to judge a PROVE: the message, and what is known of the device."""

    message: bytes
    prove: Prove
    subject: Subject
    parameter: int
    public_key: bytes
    extra: bytes

    def __repr__(self) -> str:
        return f"Proof({self.subject.id!r})"


@dataclass(frozen=True, slots=True)
class FullSession:
    """A full session, the message that tells the device of it, and the secret from which it may be resumed."""

    session: DeviceSession
    message: bytes
    resumption: bytes

    def __repr__(self) -> str:
        return f"FullSession({self.session.subject.id!r})"


def open_full(
    place: Place,
    authority: DeviceAuthority,
    proof: Proof,
    key_id: int,
    half: bytes,
    certificate: bytes,
    now_ns: int,
    lifetime_s: int,
) -> FullSession:
    """Check a PROVE whose nonce is good and open the session; `half` are 32 random bytes.

    Raises `auth.bad_signature`, `auth.bad_key` or `device.refused`, after the same work whatever is wrong with the
    sealed half. About 0.4 ms on a quiet core.
    """
    prove, name = proof.prove, place.who(proof.subject.id)
    kem = authority.kem(prove.kem_id)
    if kem is None:
        raise QedgeError("device.refused", "A device seals to a key that the node does not have any more.")
    try:
        agreement.verify(
            proof.parameter,
            proof.public_key,
            prove.signature,
            agreement.prove_message(name, prove),
            agreement.SESSION_CONTEXT,
        )
        device_half = kem.open(prove.sealed, agreement.prove_info(name, prove))
        info = agreement.open_info(name, hashlib.sha256(proof.message).digest())
        sealed = agreement.seal_half(half, prove.ephemeral, info)
    except agreement.AgreementError as error:
        raise auth_error(error) from None
    statement = b"" if authority.is_newest(prove.kem_id) else authority.statement
    opened = Opened(key_id, lifetime_s, sealed, certificate, statement)
    prk = schedule.extract(device_half + half, proof.extra)
    digest = schedule.transcript(name, proof.message, opened.body())
    session = rich_session(place, proof.subject, prove.suite, prk, digest, key_id, now_ns, lifetime_s)
    message = replace(opened, mac=schedule.confirmation(prk, digest)).pack()
    return FullSession(session, message, schedule.next_secret(prk, digest))
