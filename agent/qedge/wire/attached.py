"""Topics and messages of attached devices.

A device `d` of a node speaks on seven levels: `qedge/v1/{fleet}/{node}/dev/{d}/{leaf}`. What is sealed inside a frame
is `length of the channel's name (1 byte) ‖ name in UTF-8 ‖ body`, in both directions; downwards the name is that of a
command. Frames are bound to their topic.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from qedge.base.ids import is_name

MAX_CHANNEL_BYTES: Final = 36
_DEVICE_LEVEL: Final = "dev"


class DeviceLeaf(StrEnum):
    """What a topic of a device carries: HELLO and UP from the device, WELCOME and DOWN to it."""

    HELLO = "hello"
    WELCOME = "welcome"
    UP = "up"
    DOWN = "down"


def device_topic(fleet: str, node: str, device: str, leaf: DeviceLeaf) -> str:
    """Return a topic of a device; raises `ValueError` for names that are no topic segments."""
    if not (is_name(fleet) and is_name(node) and is_name(device)):
        raise ValueError(f"{fleet!r}, {node!r} and {device!r} have to be names")
    return f"qedge/v1/{fleet}/{node}/{_DEVICE_LEVEL}/{device}/{leaf}"


def parse_device_topic(text: str) -> tuple[str, str, str, DeviceLeaf] | None:
    """Return fleet, node, device and leaf of a topic, or None where it is not one of a device."""
    parts = text.split("/")
    if len(parts) != 7 or parts[0] != "qedge" or parts[1] != "v1" or parts[4] != _DEVICE_LEVEL:
        return None
    if not (is_name(parts[2]) and is_name(parts[3]) and is_name(parts[5])):
        return None
    try:
        return parts[2], parts[3], parts[5], DeviceLeaf(parts[6])
    except ValueError:
        return None


def pack_reading(channel: str, body: bytes) -> bytes:
    """Return the inside of a frame; raises `ValueError` for a channel that is no name."""
    if not is_name(channel):
        raise ValueError(f"{channel!r} is no name of a channel")
    name = channel.encode()
    return bytes([len(name)]) + name + body


def unpack_reading(inside: bytes) -> tuple[str, bytes]:
    """Return channel and body of the inside of a frame; raises `ValueError` where it has none."""
    if not inside or not 1 <= inside[0] <= MAX_CHANNEL_BYTES or len(inside) <= inside[0]:
        raise ValueError("a reading begins with the length and the name of its channel")
    end = 1 + inside[0]
    channel = inside[1:end].decode("ascii", "replace")
    if not is_name(channel):
        raise ValueError("a channel is a name")
    return channel, inside[end:]
