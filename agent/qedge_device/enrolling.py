"""Messages of enrolment, the node's key statement, and the line that invites a device. Layout as in `messages`.

A statement says which X-Wing key (ML-KEM-768 and X25519) sessions with a node are made with; the node's identity key
signs it. A device knows that key by its pin, SHA3-256 of the raw ML-DSA public key, which stands in the invitation.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from qedge_device.messages import (
    KEM_ID_BYTES,
    MAC_BYTES,
    NONCE_BYTES,
    MessageError,
    MessageType,
    Reader,
    fields,
    read_text,
)

PREFIX = "qedge-device1:"
PIN_BYTES = 32
TOKEN_BYTES = 16
ROOT_BYTES = 32
MAX_LINE = 4096
_STATEMENT = 0x41
_INVITATION = 0x42


def pin_of(public_key: bytes) -> bytes:
    """Return the pin of a node: SHA3-256 of its raw ML-DSA public key."""
    return hashlib.sha3_256(public_key).digest()


def kem_id_of(public_key: bytes) -> bytes:
    """Return the 8 bytes that name an X-Wing public key."""
    return hashlib.sha3_256(public_key).digest()[:KEM_ID_BYTES]


def fingerprint_of(public_key: bytes) -> str:
    """Return what people compare: 20 hex digits of SHA3-256 of a raw public key, in groups of 4."""
    digits = hashlib.sha3_256(public_key).hexdigest()[:20]
    return "-".join(digits[at : at + 4] for at in range(0, 20, 4))


def open_guest_id(public_key: bytes) -> str:
    """Return the name under which a device without an invitation asks: `_` and 24 hex digits of its key's SHA3-256."""
    return "_" + hashlib.sha3_256(public_key).hexdigest()[:24]


def guest_of(invitation: str, public_key: bytes) -> str:
    """Return the name under which a device with an invitation asks: the invitation's, `-` and 12 hex digits."""
    return invitation + "-" + hashlib.sha3_256(public_key).hexdigest()[:12]


@dataclass(frozen=True)
class KemStatement:
    """The node's X-Wing key; `serial` grows, a device takes none with a lower one. `until_utc_s` is wall time."""

    fleet: str
    node: str
    serial: int
    until_utc_s: int
    public_key: bytes
    signature: bytes = b""

    def body(self) -> bytes:
        """Write what the node's identity key signs."""
        head = bytes([_STATEMENT]) + fields(self.fleet.encode(), self.node.encode())
        return head + self.serial.to_bytes(8, "big") + self.until_utc_s.to_bytes(8, "big") + fields(self.public_key)

    def pack(self) -> bytes:
        """Write the statement."""
        return self.body() + fields(self.signature)

    @classmethod
    def read(cls, data: bytes) -> KemStatement:
        """Read a statement; raises `MessageError`. Its signature is checked elsewhere."""
        reader = Reader(data, _STATEMENT)
        statement = cls(
            read_text(reader.sized()),
            read_text(reader.sized()),
            reader.number(8),
            reader.number(8),
            reader.sized(),
            reader.sized(),
        )
        reader.end()
        return statement


@dataclass(frozen=True)
class Enrol:
    """ENROL: a key wants to be `device` (empty: as the invitation says). `parameter` is that of its ML-DSA: 44 or 65.

    `proof` is the key's signature over `proved()`. `chain` is the maker's certificates, each behind its length, leaf
    first, and `vouch` the signature of that leaf's key; both are empty for other methods. `mac` is by the token.
    """

    method: int
    device: str
    parameter: int
    public_key: bytes
    nonce: bytes
    ephemeral: bytes
    chain: bytes = b""
    vouch: bytes = b""
    proof: bytes = b""
    mac: bytes = bytes(MAC_BYTES)

    def body(self) -> bytes:
        """Write what key and maker sign."""
        head = bytes([MessageType.ENROL, self.method]) + fields(self.device.encode()) + bytes([self.parameter])
        return head + fields(self.public_key) + self.nonce + fields(self.ephemeral, self.chain)

    def covered(self) -> bytes:
        """Write what the MAC covers."""
        return self.body() + fields(self.vouch, self.proof)

    def pack(self) -> bytes:
        """Write the message."""
        return self.covered() + self.mac

    @classmethod
    def read(cls, data: bytes) -> Enrol:
        """Read the message; raises `MessageError`."""
        reader = Reader(data, MessageType.ENROL)
        message = cls(
            reader.number(1),
            read_text(reader.sized()),
            reader.number(1),
            reader.sized(),
            reader.take(NONCE_BYTES),
            reader.sized(),
            reader.sized(),
            reader.sized(),
            reader.sized(),
            reader.take(MAC_BYTES),
        )
        reader.end()
        return message

    def certificates(self) -> tuple[bytes, ...]:
        """Return the maker's certificates in DER; raises `MessageError`."""
        found: list[bytes] = []
        rest = self.chain
        while rest:
            size = int.from_bytes(rest[:2], "big")
            if len(rest) < 2 + size or not size or len(found) == 4:
                raise MessageError("a chain is no list of certificates")
            found.append(rest[2 : 2 + size])
            rest = rest[2 + size :]
        return tuple(found)


def proved(guest: bytes, enrol: Enrol) -> bytes:
    """Return what the new key signs; `guest` is `schedule.who` of the fleet, the node and the guest."""
    return fields(b"qedge/v1 device enrol", guest, enrol.body())


def token_mac_input(guest: bytes, enrol: Enrol) -> bytes:
    """Return what the token's MAC is over."""
    return fields(b"qedge/v1 device token", guest, enrol.covered())


@dataclass(frozen=True)
class Enrolled:
    """ENROLLED: the device is `device` now. `parameter` and `node_key` are the node's ML-DSA key: 65 or 87.

    `sealed` is the first secret for the device's fresh key; `signature` is the node's over `welcomed()`.
    """

    device: str
    parameter: int
    node_key: bytes
    certificate: bytes
    kem: bytes
    sealed: bytes
    signature: bytes = b""
    mac: bytes = bytes(MAC_BYTES)

    def body(self) -> bytes:
        """Write what the node signs."""
        head = bytes([MessageType.ENROLLED]) + fields(self.device.encode()) + bytes([self.parameter])
        return head + fields(self.node_key, self.certificate, self.kem, self.sealed)

    def pack(self) -> bytes:
        """Write the message."""
        return self.body() + fields(self.signature) + self.mac

    @classmethod
    def read(cls, data: bytes) -> Enrolled:
        """Read the message; raises `MessageError`."""
        reader = Reader(data, MessageType.ENROLLED)
        message = cls(
            read_text(reader.sized()),
            reader.number(1),
            reader.sized(),
            reader.sized(),
            reader.sized(),
            reader.sized(),
            reader.sized(),
            reader.take(MAC_BYTES),
        )
        reader.end()
        return message


def welcomed(guest: bytes, hello: bytes, enrolled: Enrolled) -> bytes:
    """Return what the node signs of an enrolment: the answer, and what it answers."""
    return fields(b"qedge/v1 device welcome", guest, hashlib.sha256(hello).digest(), enrolled.body())


@dataclass(frozen=True)
class Invitation:
    """What a device gets before it meets its node, by cable, screen or label. A secret, as long as its token is good.

    `guest` begins the user name for the time before; `token` (16 bytes) is good once, `root` (32 bytes) makes a
    constrained device that needs no enrolment at all, `extra` is a key of another source under `extra_id`.
    """

    fleet: str
    node: str
    address: str
    guest: str
    device: str
    pin: bytes
    expires_utc_s: int
    token: bytes = b""
    root: bytes = b""
    extra_id: str = ""
    extra: bytes = b""

    def __repr__(self) -> str:
        return f"Invitation({self.fleet!r}, {self.node!r}, {self.guest or self.device!r})"

    def write(self) -> str:
        """Write the line."""
        names = (self.fleet, self.node, self.address, self.guest, self.device)
        data = bytes([_INVITATION]) + fields(*(name.encode() for name in names)) + fields(self.pin)
        data += self.expires_utc_s.to_bytes(8, "big") + fields(
            self.token, self.root, self.extra_id.encode(), self.extra
        )
        return PREFIX + base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")

    @classmethod
    def read(cls, line: str) -> Invitation:
        """Read the line; raises `MessageError`, which never quotes it."""
        text = line.strip()
        if not text.startswith(PREFIX) or len(text) > MAX_LINE:
            raise MessageError("this is no invitation of a device")
        text = text[len(PREFIX) :]
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise MessageError("a part of the invitation is missing") from None
        reader = Reader(data, _INVITATION)
        names = [read_text(reader.sized()) for _ in range(5)]
        invitation = cls(
            names[0],
            names[1],
            names[2],
            names[3],
            names[4],
            reader.sized(),
            reader.number(8),
            reader.sized(),
            reader.sized(),
            read_text(reader.sized()),
            reader.sized(),
        )
        reader.end()
        return invitation
