"""How a rich device enrols: what it says, and what it makes of the answer."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qedge_device import agreement, schedule
from qedge_device.enrolling import Enrol, Enrolled, proved, token_mac_input, welcomed
from qedge_device.messages import MAC_BYTES, Method, fields
from qedge_device.reading import DeviceError

if TYPE_CHECKING:
    from qedge_device.rich_state import RichState


@dataclass(frozen=True)
class Maker:
    """What proves who made a device: certificates in DER, leaf first, and signatures by the leaf's key."""

    chain: tuple[bytes, ...]
    sign: Callable[[bytes], bytes]


def make_enrol(
    state: RichState, key: agreement.DeviceKey, guest: bytes, nonce: bytes, ephemeral: bytes, maker: Maker | None
) -> Enrol:
    """Make ENROL; `guest` is `schedule.who` of the guest, `ephemeral` a fresh X-Wing public key."""
    method = Method.TOKEN if state.token else Method.MANUFACTURER if maker is not None else Method.APPROVAL
    chain = fields(*maker.chain) if maker is not None else b""
    enrol = Enrol(method, state.device, key.parameter, key.public_key, nonce, ephemeral, chain)
    message = proved(guest, enrol)
    vouch = maker.sign(message) if maker is not None else b""
    enrol = replace(enrol, vouch=vouch, proof=key.sign(message, agreement.ENROL_CONTEXT))
    if not state.token:
        return enrol
    return replace(enrol, mac=token_mac(state.token, guest, enrol))


def token_mac(token: bytes, guest: bytes, enrol: Enrol) -> bytes:
    """Return the MAC of an ENROL by the token of an invitation."""
    return hmac.new(token, token_mac_input(guest, enrol), hashlib.sha256).digest()


def first_secret(half: bytes, token: bytes, guest: bytes, hello: bytes, enrolled: Enrolled) -> tuple[bytes, bytes]:
    """Return the first secret of a device, and the MAC that proves that node and device have the same."""
    prk = schedule.extract(half, token)
    digest = schedule.transcript(guest, hello, enrolled.body())
    return schedule.next_secret(prk, digest), schedule.confirmation(prk, digest, MAC_BYTES)


def answer_secret(
    state: RichState, guest: bytes, hello: bytes, enrolled: Enrolled, ephemeral: agreement.XWingKey
) -> bytes:
    """Check ENROLLED and return the device's first secret; raises `DeviceError` or `AgreementError`."""
    agreement.verify(
        enrolled.parameter,
        enrolled.node_key,
        enrolled.signature,
        welcomed(guest, hello, enrolled),
        agreement.WELCOME_CONTEXT,
    )
    half = ephemeral.open(enrolled.sealed, agreement.open_info(guest, hashlib.sha256(hello).digest()))
    secret, mac = first_secret(half, state.token, guest, hello, enrolled)
    if not hmac.compare_digest(enrolled.mac, mac):
        raise DeviceError("proof")
    return secret
