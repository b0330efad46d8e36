"""The language between daemon and worker: frames of MessagePack behind a 4-byte big-endian length.

Both ends decode with bounds: a frame over `MAX_FRAME_BYTES` or one that is no frame is an error, never a large buffer.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, cast

import msgspec

from qedge.base.errors import QedgeError
from qedge.workers.model import Msg

MAX_FRAME_BYTES: Final = 256 * 2**20
PARCEL_BYTES: Final = 64 * 1024
"""Results from this size on go through shared memory instead of the socket."""

LENGTH: Final = struct.Struct(">I")


class Kind(IntEnum):
    """What a frame is; the comment says who sends it."""

    INIT = 0  # daemon: first frame, body = limits and the target's init
    CALL = 1  # daemon
    CANCEL = 2  # daemon: the call of this id is no longer wanted
    RANDOM = 3  # worker: body = number of bytes; daemon: body = the bytes
    READY = 4  # worker: the target is made
    RESULT = 5  # worker
    ERROR = 6  # worker: name = error code, body = {message, fix, details}
    HEARTBEAT = 7  # worker: body = resident bytes
    PARCEL = 8  # worker: like RESULT, but the body stands in the shared memory; body = its length
    TAKEN = 9  # daemon: the parcel was read, its memory may be used again
    STREAM = 10  # both: one message of the stream of this id; body = bytes or text, from the daemon also none: its end


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`id` pairs an answer with its call; `name` is a method or an error code; `body` is a `Msg`."""

    kind: Kind
    id: int = 0
    name: str = ""
    body: object = None

    @property
    def msg(self) -> Msg:
        """The body; MessagePack without extension types has no other values."""
        return cast("Msg", self.body)


def _refuse(code: int, _data: memoryview) -> object:
    raise ValueError(f"extension type {code}")


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Frame, ext_hook=_refuse)
_VALUE: Final = msgspec.msgpack.Decoder(ext_hook=_refuse)


def encode(frame: Frame) -> bytes:
    """Write a frame with its length in front; raises `worker.too_large`."""
    body = _ENCODER.encode(frame)
    if len(body) > MAX_FRAME_BYTES:
        raise QedgeError(
            "worker.too_large",
            f"A message of {len(body)} bytes is larger than the {MAX_FRAME_BYTES} bytes a worker may send or get.",
            fix="Ask for less at a time.",
        )
    return LENGTH.pack(len(body)) + body


def encode_body(body: Msg) -> bytes:
    """Write a value by itself; raises `worker.too_large`."""
    data = _ENCODER.encode(body)
    if len(data) > MAX_FRAME_BYTES:
        raise QedgeError(
            "worker.too_large", f"An answer of {len(data)} bytes is too large.", fix="Ask for less at a time."
        )
    return data


def decode_body(data: bytes) -> Msg:
    """Read a value that stands by itself; raises `worker.bad_answer`."""
    try:
        return cast("Msg", _VALUE.decode(data))
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise QedgeError("worker.bad_answer", f"An answer cannot be read: {error}.") from None


def check_length(header: bytes | bytearray) -> int:
    """Return the length that stands in the 4 header bytes; raises `worker.bad_answer` where it is out of bounds."""
    length: int = LENGTH.unpack(header)[0]
    if length > MAX_FRAME_BYTES:
        raise QedgeError("worker.bad_answer", f"A frame claims {length} bytes.", fix="Update or remove the driver.")
    return length


def decode(body: bytes | bytearray) -> Frame:
    """Read the body of a frame; raises `worker.bad_answer` where it is none."""
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise QedgeError("worker.bad_answer", f"A frame cannot be read: {error}.") from None
