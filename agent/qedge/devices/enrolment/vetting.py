"""What is checked of an ENROL and how it is answered. Pure; all of it may run in a thread."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace

from qedge.base.errors import QedgeError
from qedge.crypto.keys import PublicKey
from qedge.devices.enrolment.authority import WELCOME_PURPOSE, DeviceAuthority
from qedge_device import agreement
from qedge_device.enrolling import Enrol, Enrolled, proved, welcomed
from qedge_device.joining import first_secret, token_mac
from qedge_device.messages import MessageError


@dataclass(frozen=True, slots=True)
class Welcome:
    """An answer, and what the node has to keep before it gives it."""

    message: bytes
    secret: bytes
    certificate: bytes

    def __repr__(self) -> str:
        return "Welcome()"


def read_enrol(data: bytes) -> Enrol:
    """Read an ENROL; raises `device.bad_message`."""
    try:
        return Enrol.read(data)
    except MessageError as error:
        raise QedgeError("device.bad_message", f"An enrolment cannot be read: {error}.") from error


def check_token(token: bytes, guest: bytes, enrol: Enrol) -> None:
    """Raise `device.refused` where the MAC was not made with the token of the invitation."""
    if not hmac.compare_digest(token_mac(token, guest, enrol), enrol.mac):
        raise QedgeError("device.refused", "A device does not prove its invitation.")


def check_proof(guest: bytes, enrol: Enrol) -> None:
    """Raise `auth.bad_key` or `auth.bad_signature` where the device does not have the key that it names."""
    try:
        agreement.verify(enrol.parameter, enrol.public_key, enrol.proof, proved(guest, enrol), agreement.ENROL_CONTEXT)
    except agreement.AgreementError as error:
        raise auth_error(error) from None


def answer(
    authority: DeviceAuthority,
    guest: bytes,
    token: bytes,
    hello: bytes,
    enrol: Enrol,
    device: str,
    public_key: PublicKey,
    utc_ns: int,
    life_s: float,
    drawn: bytes,
) -> Welcome:
    """Certify a device and write the answer to its ENROL; `drawn` are 64 random bytes. Takes milliseconds."""
    half, serial = drawn[:32], drawn[32:]
    certificate = authority.certify(device, public_key, utc_ns, life_s, lambda size: serial[:size])
    info = agreement.open_info(guest, hashlib.sha256(hello).digest())
    try:
        sealed = agreement.seal_half(half, enrol.ephemeral, info)
    except agreement.AgreementError as error:
        raise auth_error(error) from None
    enrolled = Enrolled(device, authority.parameter, authority.public_key, certificate, authority.statement, sealed)
    signature = authority.sign(welcomed(guest, hello, enrolled), WELCOME_PURPOSE)
    secret, mac = first_secret(half, token, guest, hello, enrolled)
    return Welcome(replace(enrolled, signature=signature, mac=mac).pack(), secret, certificate)


def auth_error(error: agreement.AgreementError) -> QedgeError:
    """Return the error of the table for one of the device library."""
    if error.reason == "key":
        return QedgeError("auth.bad_key", "A device sent a key that is none.")
    if error.reason == "signature":
        return QedgeError("auth.bad_signature", "A device does not prove that it has its key.")
    return QedgeError("device.refused", "A device does not know the key of this node.")
