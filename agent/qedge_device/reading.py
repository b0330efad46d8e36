"""What is inside a frame, and the topics of a device.

Inside stands `length of the channel's name (1) ‖ name ‖ body`; from the node to a device the name is that of a command.
A device speaks on `qedge/v1/{fleet}/{node}/dev/{device}/{leaf}`: `hello` and `up` from it, `welcome` and `down` to it.
"""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9_-]{1,36}")


class DeviceError(Exception):
    """Something came that has no effect. `reason` is one word for programs."""

    def __init__(self, reason: str) -> None:
        super().__init__("refused: " + reason)
        self.reason = reason


def is_name(text: str) -> bool:
    """Say whether `text` can name a fleet, node, device or channel: 1 to 36 letters, digits, `_` and `-`."""
    return _NAME.fullmatch(text) is not None


def topic(fleet: str, node: str, device: str, leaf: str) -> str:
    """Return a topic of a device."""
    return "/".join(("qedge/v1", fleet, node, "dev", device, leaf))


def pack(channel: str, body: bytes) -> bytes:
    """Write the inside of a frame; raises `ValueError` for a channel that is no name."""
    if not is_name(channel):
        raise ValueError("a channel is a name")
    name = channel.encode("ascii")
    return bytes([len(name)]) + name + body


def unpack(inside: bytes) -> tuple[str, bytes]:
    """Read the inside of a frame; raises `DeviceError` (`reading`)."""
    end = 1 + inside[0] if inside else 0
    name = inside[1:end].decode("ascii", "replace")
    if len(name) != end - 1 or not is_name(name):
        raise DeviceError("reading")
    return name, inside[end:]
