"""Properties of MQTT 5 packets that clients send (§2.2.2), read within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from qedge.devices.ways_in.model import Code, PacketError

MAX_PROPERTIES_BYTES: Final = 4096
MAX_USER_PROPERTIES: Final = 16
_USER_PROPERTY: Final = 0x26


class _Form(StrEnum):
    BYTE = "byte"
    TWO = "two"
    FOUR = "four"
    VARIABLE = "variable"
    TEXT = "text"
    BINARY = "binary"
    PAIR = "pair"


_FORMS: Final[Mapping[int, _Form]] = {
    0x01: _Form.BYTE,
    0x02: _Form.FOUR,
    0x03: _Form.TEXT,
    0x08: _Form.TEXT,
    0x09: _Form.BINARY,
    0x0B: _Form.VARIABLE,
    0x11: _Form.FOUR,
    0x15: _Form.TEXT,
    0x16: _Form.BINARY,
    0x17: _Form.BYTE,
    0x18: _Form.FOUR,
    0x19: _Form.BYTE,
    0x1F: _Form.TEXT,
    0x21: _Form.TWO,
    0x22: _Form.TWO,
    0x23: _Form.TWO,
    0x26: _Form.PAIR,
    0x27: _Form.FOUR,
}
"""Forms of the properties that a client may send."""

_WIDTHS: Final = {_Form.BYTE: 1, _Form.TWO: 2, _Form.FOUR: 4}

SESSION_EXPIRY: Final = 0x11
AUTHENTICATION_METHOD: Final = 0x15
RECEIVE_MAXIMUM: Final = 0x21
TOPIC_ALIAS: Final = 0x23
MAXIMUM_PACKET_SIZE: Final = 0x27
SUBSCRIPTION_ID: Final = 0x0B

OF_CONNECT: Final = frozenset({0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27})
OF_WILL: Final = frozenset({0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26})
OF_PUBLISH: Final = frozenset({0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26})
OF_ACKNOWLEDGEMENT: Final = frozenset({0x1F, 0x26})
OF_SUBSCRIBE: Final = frozenset({0x0B, 0x26})
OF_UNSUBSCRIBE: Final = frozenset({0x26})
OF_DISCONNECT: Final = frozenset({0x11, 0x1F, 0x26})


def read_variable(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a variable byte integer (§1.5.5) and return it with the place after it; raises `PacketError`."""
    value = 0
    for shift in (0, 7, 14, 21):
        if at >= end:
            raise PacketError("truncated")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise PacketError("bad_length")


def read_two(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a two-byte integer and return it with the place after it; raises `PacketError`."""
    if at + 2 > end:
        raise PacketError("truncated")
    return data[at] << 8 | data[at + 1], at + 2


def read_binary(data: bytes, at: int, end: int, limit_bytes: int) -> tuple[bytes, int]:
    """Read binary data (§1.5.6) and return it with the place after it; raises `PacketError`."""
    size, at = read_two(data, at, end)
    if at + size > end:
        raise PacketError("truncated")
    if size > limit_bytes:
        raise PacketError("too_long", Code.TOO_LARGE)
    return data[at : at + size], at + size


def read_text(data: bytes, at: int, end: int, limit_bytes: int) -> tuple[str, int]:
    """Read a UTF-8 string (§1.5.4) and return it with the place after it; raises `PacketError`."""
    raw, at = read_binary(data, at, end, limit_bytes)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise PacketError("bad_text") from None
    if "\0" in text:
        raise PacketError("bad_text")
    return text, at


def read_properties(data: bytes, at: int, end: int, allowed: frozenset[int]) -> tuple[dict[int, int], int]:
    """Read the properties of a packet and return its numbers with the place after them; texts are checked only.

    Raises `PacketError` for what the packet may not have, what comes twice, and what is longer than the bounds.
    """
    size, at = read_variable(data, at, end)
    if at + size > end:
        raise PacketError("truncated")
    if size > MAX_PROPERTIES_BYTES:
        raise PacketError("too_long", Code.TOO_LARGE)
    end = at + size
    found: dict[int, int] = {}
    num_user = 0
    while at < end:
        name = data[at]
        at += 1
        if name not in allowed:
            raise PacketError("bad_property")
        if name == _USER_PROPERTY:
            num_user += 1
            if num_user > MAX_USER_PROPERTIES:
                raise PacketError("too_long", Code.TOO_LARGE)
        elif name in found:
            raise PacketError("bad_property", Code.PROTOCOL_ERROR)
        found[name], at = _read_value(data, at, end, _FORMS[name])
    return found, at


def _read_value(data: bytes, at: int, end: int, form: _Form) -> tuple[int, int]:
    """Return a number, or 0 for a text or binary data."""
    width = _WIDTHS.get(form)
    if width is not None:
        if at + width > end:
            raise PacketError("truncated")
        return int.from_bytes(data[at : at + width], "big"), at + width
    if form is _Form.VARIABLE:
        return read_variable(data, at, end)
    if form is _Form.BINARY:
        _, at = read_binary(data, at, end, MAX_PROPERTIES_BYTES)
        return 0, at
    _, at = read_text(data, at, end, MAX_PROPERTIES_BYTES)
    if form is _Form.PAIR:
        _, at = read_text(data, at, end, MAX_PROPERTIES_BYTES)
    return 0, at
