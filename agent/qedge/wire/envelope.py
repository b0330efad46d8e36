"""The envelope around every message on the bus: header bytes, body bytes, seal over both as sent.

`"QE" | version (1) | seal kind (1) | header length (2) | body length (4) | header | body | seal`, integers big-endian.
Header and body are MessagePack; nothing is canonicalised, because the seal covers the bytes as they were sent.

- kind 0, none: handshakes and requests to join, which carry their own proof, heartbeats, whose proof is their hash
  chain, and last wills, which are only hints;
- kind 1, signed: the seal is a certificate chain and an ML-DSA signature (`qedge.crypto.signed`);
- kind 2, sealed: the header names the sender in clear, the body is a frame of a session, and there is no seal beside
  it; what is inside the frame is again an envelope, of kind 0 (`qedge.mesh.sessions`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final, TypeVar

import msgspec

from qedge.base.errors import QedgeError

MAGIC: Final = b"QE"
VERSION: Final = 1
MAX_BYTES: Final = 256 * 1024
MAX_HEADER_BYTES: Final = 2048
_PREFIX: Final = struct.Struct(">2sBBHI")

T = TypeVar("T", bound=msgspec.Struct)


class SealKind(IntEnum):
    """How an envelope is protected."""

    NONE = 0
    SIGNED = 1
    SEALED = 2


class Header(msgspec.Struct, frozen=True):
    """What is bound to the body: where it was meant to go, who sent it, in which order, what for and until when.

    `purpose` is the tag of the body. `expires_utc_ns` 0: does not expire. A receiver compares `topic` with the one the
    message really came on. Fields that are not known here are passed over: within a version the header grows only by
    optional ones.
    """

    topic: Annotated[str, msgspec.Meta(max_length=200)]
    sender: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,36}\Z")]
    sequence: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    purpose: Annotated[str, msgspec.Meta(max_length=64)]
    utc_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    expires_utc_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


_KINDS: Final = frozenset(kind.value for kind in SealKind)


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope taken apart and not yet believed. `covered`: the bytes under the seal, prefix included."""

    kind: SealKind
    covered: bytes
    header: Header
    body: bytes
    seal: bytes


_ENCODER: Final = msgspec.msgpack.Encoder()
_HEADER: Final = msgspec.msgpack.Decoder(Header)


def purpose_of(body: type[msgspec.Struct]) -> str:
    """Return what a message is for: the tag of its struct."""
    return str(body.__struct_config__.tag)


def encode(header: Header, body: msgspec.Struct) -> bytes:
    """Write an envelope without a seal; raises `bus.too_large`."""
    return cover(SealKind.NONE, header, _ENCODER.encode(body))


def cover(kind: SealKind, header: Header, body: bytes, seal_bytes: int = 0) -> bytes:
    """Write prefix, header and body, to which a seal of `seal_bytes` may be added; raises `bus.too_large`."""
    head = _ENCODER.encode(header)
    size = _PREFIX.size + len(head) + len(body) + seal_bytes
    if size > MAX_BYTES or len(head) > MAX_HEADER_BYTES:
        raise QedgeError("bus.too_large", f"A message of {size} bytes is over the limit of {MAX_BYTES}.")
    return _PREFIX.pack(MAGIC, VERSION, kind, len(head), len(body)) + head + body


def take_apart(data: bytes) -> Envelope:
    """Take an envelope apart; raises `bus.bad_message` for anything that is not one."""
    if not _PREFIX.size <= len(data) <= MAX_BYTES:
        raise bad_message("its length is out of bounds")
    magic, version, kind, head_size, body_size = _PREFIX.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise bad_message("it is no envelope of a version known here")
    if kind not in _KINDS:
        raise bad_message("its seal is of a kind unknown here")
    middle = _PREFIX.size + head_size
    end = middle + body_size
    if head_size > MAX_HEADER_BYTES or len(data) < end or (kind != SealKind.SIGNED and len(data) != end):
        raise bad_message("its lengths do not fit")
    try:
        header = _HEADER.decode(data[_PREFIX.size : middle])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_message(f"it cannot be decoded ({error})") from error
    return Envelope(SealKind(kind), data[:end], header, data[middle:end], data[end:])


def read_body(envelope: Envelope, topic: str, body: type[T], utc_ns: int) -> T:
    """Read the body of an envelope that came on `topic` at `utc_ns`; raises `bus.bad_message`."""
    header = envelope.header
    if header.topic != topic:
        raise bad_message("it was meant for another topic")
    if header.purpose != purpose_of(body):
        raise bad_message("it was meant for another purpose")
    if header.expires_utc_ns and header.expires_utc_ns <= utc_ns:
        raise bad_message("it has expired")
    try:
        return msgspec.msgpack.decode(envelope.body, type=body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_message(f"it cannot be decoded ({error})") from error


def decode(data: bytes, topic: str, body: type[T], utc_ns: int) -> tuple[Header, T]:
    """Read an envelope without a seal; raises `bus.bad_message`, also for one that has a seal."""
    envelope = take_apart(data)
    if envelope.kind is not SealKind.NONE:
        raise bad_message("it has a seal where none belongs")
    return envelope.header, read_body(envelope, topic, body, utc_ns)


def bad_message(why: str) -> QedgeError:
    """Make the error for a message that has no effect."""
    return QedgeError("bus.bad_message", f"A message has no effect: {why}.")
