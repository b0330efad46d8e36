"""The envelope around every message on the bus: header bytes, body bytes, seal over both as sent.

`"QE" | version (1) | seal kind (1) | header length (2) | body length (4) | header | body | seal`, integers big-endian.
Header and body are MessagePack; nothing is canonicalised, because the seal covers the bytes as they were sent. Seal
kind 0 is none: only nodes of a standalone fleet accept it, and only for hints that grant nothing.
"""

from __future__ import annotations

import struct
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
    """How an envelope is protected. Kinds other than `NONE` come with identities and sessions."""

    NONE = 0


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


_ENCODER: Final = msgspec.msgpack.Encoder()
_HEADER: Final = msgspec.msgpack.Decoder(Header)


def purpose_of(body: type[msgspec.Struct]) -> str:
    """Return what a message is for: the tag of its struct."""
    return str(body.__struct_config__.tag)


def encode(header: Header, body: msgspec.Struct) -> bytes:
    """Write an envelope without a seal; raises `bus.too_large`."""
    head, content = _ENCODER.encode(header), _ENCODER.encode(body)
    size = _PREFIX.size + len(head) + len(content)
    if size > MAX_BYTES or len(head) > MAX_HEADER_BYTES:
        raise QedgeError("bus.too_large", f"A message of {size} bytes is over the limit of {MAX_BYTES}.")
    return _PREFIX.pack(MAGIC, VERSION, SealKind.NONE, len(head), len(content)) + head + content


def decode(data: bytes, topic: str, body: type[T], utc_ns: int) -> tuple[Header, T]:
    """Read an envelope that came on `topic` at `utc_ns`; raises `bus.bad_message` for anything that is not one."""
    if not _PREFIX.size <= len(data) <= MAX_BYTES:
        raise _bad("its length is out of bounds")
    magic, version, seal, head_size, body_size = _PREFIX.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise _bad("it is no envelope of a version known here")
    if seal != SealKind.NONE:
        raise _bad("its seal is of a kind unknown here")
    if head_size > MAX_HEADER_BYTES or len(data) != _PREFIX.size + head_size + body_size:
        raise _bad("its lengths do not fit")
    middle = _PREFIX.size + head_size
    try:
        header = _HEADER.decode(data[_PREFIX.size : middle])
        content = msgspec.msgpack.decode(data[middle:], type=body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(f"it cannot be decoded ({error})") from error
    if header.topic != topic:
        raise _bad("it was meant for another topic")
    if header.purpose != purpose_of(body):
        raise _bad("it was meant for another purpose")
    if header.expires_utc_ns and header.expires_utc_ns <= utc_ns:
        raise _bad("it has expired")
    return header, content


def _bad(why: str) -> QedgeError:
    return QedgeError("bus.bad_message", f"A message has no effect: {why}.")
