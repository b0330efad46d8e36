"""What devices and nodes say to each other before frames can pass: `hello` from the device, `welcome` to it.

A message is a type byte and fields in fixed order: bytes of a fixed size, integers big-endian, and bytes of any size
behind their length in 2 bytes. Nothing is optional: what does not apply is empty. A message with bytes left over is
none. What the fields are made from stands in `schedule` and `agreement`.

    full session      ASK → CHALLENGE → PROVE → OPENED
    resumed session   RESUME → RESUMED                     no public-key operation
    short session     JOIN → JOINED                        29 and 34 bytes
    enrolment         ENROL → ENROLLED, or PENDING: ask again later
    any               → REFUSED
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

NONCE_BYTES = 32
DIGEST_BYTES = 32
MAC_BYTES = 32
BOOT_BYTES = 16
KEM_ID_BYTES = 8
TICKET_BYTES = 8
KEY_ID_BYTES = 4
JOIN_NONCE_BYTES = 8
JOIN_MAC_BYTES = 16
MAX_MESSAGE_BYTES = 48 * 1024
MAX_CONNECT_COUNTER = 2**63 - 1
"""Highest counter of RESUME and CONNECT: what a database holds as a number. No device gets there by counting."""


class MessageType(IntEnum):
    """The first byte of a message."""

    ASK = 0x01
    PROVE = 0x02
    RESUME = 0x03
    JOIN = 0x04
    ENROL = 0x05
    CHALLENGE = 0x81
    OPENED = 0x82
    RESUMED = 0x83
    JOINED = 0x84
    ENROLLED = 0x85
    PENDING = 0x86
    REFUSED = 0x87


class Refusal(IntEnum):
    """Why a node refuses, as far as it says: come back later; start with ASK; never mind why."""

    BUSY = 1
    START_ANEW = 2
    DENIED = 3


class Method(IntEnum):
    """By what a device enrols: a one-time token, an operator who approves it, its maker's certificate."""

    TOKEN = 1
    APPROVAL = 2
    MANUFACTURER = 3


class MessageError(ValueError):
    """Bytes are no message of the type that was expected."""


def fields(*parts: bytes) -> bytes:
    """Join byte strings, each behind its length in 2 bytes, so that no two lists give the same result."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


class Reader:
    """Takes a message apart; every method raises `MessageError` where the bytes run out."""

    def __init__(self, data: bytes, kind: int) -> None:
        if not 0 < len(data) <= MAX_MESSAGE_BYTES or data[0] != kind:
            raise MessageError("it is no message of this type")
        self._data = data
        self._at = 1

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise MessageError("a message is cut off")
        part, self._at = self._data[self._at : end], end
        return part

    def sized(self) -> bytes:
        """Return bytes that stand behind their length."""
        return self.take(self.number(2))

    def number(self, size: int) -> int:
        """Return an unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def end(self) -> None:
        """Raise where something is left over."""
        if self._at != len(self._data):
            raise MessageError("a message has bytes left over")


def read_text(data: bytes) -> str:
    """Return text of ASCII; raises `MessageError`."""
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise MessageError("a name is not ASCII") from None


@dataclass(frozen=True)
class Ask:
    """ASK: the device wants a session, with one of `suites` (one byte each), and knows the node's key `kem_id`."""

    suites: bytes
    kem_id: bytes
    nonce: bytes

    def pack(self) -> bytes:
        """Write the message."""
        return bytes([MessageType.ASK]) + fields(self.suites) + self.kem_id + self.nonce

    @classmethod
    def read(cls, data: bytes) -> Ask:
        """Read the message; raises `MessageError`."""
        reader = Reader(data, MessageType.ASK)
        message = cls(reader.sized(), reader.take(KEM_ID_BYTES), reader.take(NONCE_BYTES))
        reader.end()
        return message


@dataclass(frozen=True)
class Challenge:
    """CHALLENGE: the node chose a suite. `kem` is its newest key statement, empty where the device has it."""

    suite: int
    nonce: bytes
    boot: bytes
    kem: bytes

    def pack(self) -> bytes:
        """Write the message."""
        return bytes([MessageType.CHALLENGE, self.suite]) + self.nonce + self.boot + fields(self.kem)

    @classmethod
    def read(cls, data: bytes) -> Challenge:
        """Read the message; raises `MessageError`."""
        reader = Reader(data, MessageType.CHALLENGE)
        message = cls(reader.number(1), reader.take(NONCE_BYTES), reader.take(BOOT_BYTES), reader.sized())
        reader.end()
        return message


@dataclass(frozen=True)
class Prove:
    """PROVE: half of the secret for the node's key, a fresh key of the device for the other half, and its signature."""

    asked: bytes
    nonce: bytes
    boot: bytes
    suite: int
    kem_id: bytes
    ephemeral: bytes
    extra_id: bytes
    sealed: bytes
    signature: bytes = b""

    def bound(self) -> bytes:
        """Write what is bound into the sealed secret: all that stands before it."""
        head = bytes([MessageType.PROVE]) + self.asked + self.nonce + self.boot + bytes([self.suite]) + self.kem_id
        return head + fields(self.ephemeral, self.extra_id)

    def body(self) -> bytes:
        """Write what is signed."""
        return self.bound() + fields(self.sealed)

    def pack(self) -> bytes:
        """Write the message."""
        return self.body() + fields(self.signature)

    @classmethod
    def read(cls, data: bytes) -> Prove:
        """Read the message; raises `MessageError`."""
        reader = Reader(data, MessageType.PROVE)
        message = cls(
            reader.take(DIGEST_BYTES),
            reader.take(NONCE_BYTES),
            reader.take(BOOT_BYTES),
            reader.number(1),
            reader.take(KEM_ID_BYTES),
            reader.sized(),
            reader.sized(),
            reader.sized(),
            reader.sized(),
        )
        reader.end()
        return message


@dataclass(frozen=True)
class Opened:
    """OPENED: the session `key_id` is open for `lifetime_s` seconds; `certificate`, `kem`: newer ones, or empty."""

    key_id: int
    lifetime_s: int
    sealed: bytes
    certificate: bytes
    kem: bytes
    mac: bytes = bytes(MAC_BYTES)

    def body(self) -> bytes:
        """Write what the MAC covers."""
        head = bytes([MessageType.OPENED]) + self.key_id.to_bytes(4, "big") + self.lifetime_s.to_bytes(4, "big")
        return head + fields(self.sealed, self.certificate, self.kem)

    def pack(self) -> bytes:
        """Write the message."""
        return self.body() + self.mac

    @classmethod
    def read(cls, data: bytes) -> Opened:
        """Read the message; raises `MessageError`."""
        reader = Reader(data, MessageType.OPENED)
        message = cls(
            reader.number(4),
            reader.number(4),
            reader.sized(),
            reader.sized(),
            reader.sized(),
            reader.take(MAC_BYTES),
        )
        reader.end()
        return message


@dataclass(frozen=True)
class Resume:
    """RESUME: the device wants a session from the secret that `ticket` names. `counter` only grows."""

    counter: int
    ticket: bytes
    suite: int
    nonce: bytes
    extra_id: bytes
    mac: bytes = bytes(MAC_BYTES)

    def body(self) -> bytes:
        """Write what the MAC covers."""
        head = bytes([MessageType.RESUME]) + self.counter.to_bytes(8, "big") + self.ticket + bytes([self.suite])
        return head + self.nonce + fields(self.extra_id)

    def pack(self) -> bytes:
        """Write the message."""
        return self.body() + self.mac

    @classmethod
    def read(cls, data: bytes) -> Resume:
        """Read the message; raises `MessageError`."""
        reader = Reader(data, MessageType.RESUME)
        message = cls(
            reader.number(8),
            reader.take(TICKET_BYTES),
            reader.number(1),
            reader.take(NONCE_BYTES),
            reader.sized(),
            reader.take(MAC_BYTES),
        )
        reader.end()
        if message.counter > MAX_CONNECT_COUNTER:
            raise MessageError("a counter is too high")
        return message


@dataclass(frozen=True)
class Resumed:
    """RESUMED: the session `key_id` is open for `lifetime_s` seconds; `boot` says which run of the node."""

    key_id: int
    lifetime_s: int
    boot: bytes
    nonce: bytes
    mac: bytes = bytes(MAC_BYTES)

    def body(self) -> bytes:
        """Write what the MAC covers."""
        head = bytes([MessageType.RESUMED]) + self.key_id.to_bytes(4, "big") + self.lifetime_s.to_bytes(4, "big")
        return head + self.boot + self.nonce

    def pack(self) -> bytes:
        """Write the message."""
        return self.body() + self.mac

    @classmethod
    def read(cls, data: bytes) -> Resumed:
        """Read the message; raises `MessageError`."""
        reader = Reader(data, MessageType.RESUMED)
        message = cls(
            reader.number(4),
            reader.number(4),
            reader.take(BOOT_BYTES),
            reader.take(NONCE_BYTES),
            reader.take(MAC_BYTES),
        )
        reader.end()
        return message


@dataclass(frozen=True)
class Join:
    """JOIN: as RESUME, from the root of a constrained device, in 29 bytes."""

    counter: int
    nonce: bytes
    mac: bytes = bytes(JOIN_MAC_BYTES)

    def body(self) -> bytes:
        """Write what the MAC covers."""
        return bytes([MessageType.JOIN]) + self.counter.to_bytes(4, "big") + self.nonce

    def pack(self) -> bytes:
        """Write the message."""
        return self.body() + self.mac

    @classmethod
    def read(cls, data: bytes) -> Join:
        """Read the message; raises `MessageError`."""
        reader = Reader(data, MessageType.JOIN)
        message = cls(reader.number(4), reader.take(JOIN_NONCE_BYTES), reader.take(JOIN_MAC_BYTES))
        reader.end()
        return message


@dataclass(frozen=True)
class Joined:
    """JOINED: as RESUMED, in 34 bytes. The nonce is 8 bytes of the node's boot id and 8 random ones."""

    epoch: int
    nonce: bytes
    mac: bytes = bytes(JOIN_MAC_BYTES)

    def body(self) -> bytes:
        """Write what the MAC covers."""
        return bytes([MessageType.JOINED, self.epoch]) + self.nonce

    def pack(self) -> bytes:
        """Write the message."""
        return self.body() + self.mac

    @classmethod
    def read(cls, data: bytes) -> Joined:
        """Read the message; raises `MessageError`."""
        reader = Reader(data, MessageType.JOINED)
        message = cls(reader.number(1), reader.take(2 * JOIN_NONCE_BYTES), reader.take(JOIN_MAC_BYTES))
        reader.end()
        return message


@dataclass(frozen=True)
class Pending:
    """PENDING: an operator has to approve the device; ask again after `retry_s` seconds."""

    retry_s: int

    def pack(self) -> bytes:
        """Write the message."""
        return bytes([MessageType.PENDING]) + self.retry_s.to_bytes(2, "big")

    @classmethod
    def read(cls, data: bytes) -> Pending:
        """Read the message; raises `MessageError`."""
        reader = Reader(data, MessageType.PENDING)
        message = cls(reader.number(2))
        reader.end()
        return message


@dataclass(frozen=True)
class Refused:
    """REFUSED: nobody signed it, so it is a hint; `retry_s` 0: not said."""

    refusal: int
    retry_s: int = 0

    def pack(self) -> bytes:
        """Write the message."""
        return bytes([MessageType.REFUSED, self.refusal]) + self.retry_s.to_bytes(2, "big")

    @classmethod
    def read(cls, data: bytes) -> Refused:
        """Read the message; raises `MessageError`."""
        reader = Reader(data, MessageType.REFUSED)
        message = cls(reader.number(1), reader.number(2))
        reader.end()
        return message
