"""What a command to a device carries, and what the device answers.

Inside a frame to the device stands a name and a body, as in every frame: the name of the command, and

    request id (8) ‖ argument            the command
    request id (8) ‖ status (1) ‖ text   the answer, as a reading on the channel `_done`

A device does a command once for each request id and answers each time it comes. Names that begin with `_` are the
gateway's own: `_key` downwards is a key of a segment (`qedge_device.group`), upwards it asks for one.
"""

from __future__ import annotations

from enum import IntEnum

REQUEST_BYTES = 8
DONE = "_done"
KEY = "_key"
MAX_DETAIL_BYTES = 200


class CommandStatus(IntEnum):
    """How a command ended at the device."""

    DONE = 0
    REFUSED = 1
    FAILED = 2


def pack_command(request: bytes, argument: bytes) -> bytes:
    """Write the body of a command."""
    if len(request) != REQUEST_BYTES:
        raise ValueError("a request id has 8 bytes")
    return request + argument


def unpack_command(body: bytes) -> tuple[bytes, bytes]:
    """Return request id and argument; raises `ValueError`."""
    if len(body) < REQUEST_BYTES:
        raise ValueError("a command begins with a request id of 8 bytes")
    return body[:REQUEST_BYTES], body[REQUEST_BYTES:]


def pack_done(request: bytes, status: CommandStatus, detail: str = "") -> bytes:
    """Write the body of an answer; `detail` is cut at 200 bytes of UTF-8."""
    return pack_command(request, bytes([status]) + detail.encode()[:MAX_DETAIL_BYTES])


def unpack_done(body: bytes) -> tuple[bytes, CommandStatus, str]:
    """Return request id, status and text; raises `ValueError`."""
    request, rest = unpack_command(body)
    if not rest:
        raise ValueError("an answer has a status")
    return request, CommandStatus(rest[0]), rest[1 : 1 + MAX_DETAIL_BYTES].decode("utf-8", "replace")


def pack_key_request(segment: str = "", channels: tuple[str, ...] = ()) -> bytes:
    """Write the body of a reading on `_key`: ask for channels of a segment, by default all of the device's own."""
    return f"{segment}/{','.join(channels)}".encode("ascii") if segment or channels else b""


def unpack_key_request(body: bytes) -> tuple[str, tuple[str, ...]]:
    """Return segment and channels, empty where none is named; raises `ValueError`."""
    if not body:
        return "", ()
    segment, slash, channels = body.decode("ascii").partition("/")
    if not slash or len(body) > 4096:
        raise ValueError("a request for a key is `segment/channel,channel`")
    return segment, tuple(channels.split(",")) if channels else ()
