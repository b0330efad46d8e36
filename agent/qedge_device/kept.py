"""What a device keeps across restarts, as JSON: its maker writes it to a file that nobody else can read.

Counters only grow, also when the power fails: a block of them is kept as used before the first is used, so the file is
written once in `RESERVED` connections and not at each.
"""

from __future__ import annotations

import json

from qedge_device.reading import DeviceError

RESERVED = 32
_VERSION = 1


class Counter:
    """A number that never repeats. `kept` is what the file has to say before the next number is used."""

    def __init__(self, kept: int = 0) -> None:
        self._next = kept + 1
        self.kept = kept

    def take(self) -> int:
        """Return the next number; afterwards `kept` may have grown."""
        number = self._next
        self._next = number + 1
        if number > self.kept:
            self.kept = number + RESERVED - 1
        return number


def write(values: dict[str, bytes | str | int]) -> bytes:
    """Write what is kept; bytes as hex."""
    plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()}
    return json.dumps({"version": _VERSION, **plain}, indent=1).encode("ascii")


class Kept:
    """Reads what `write` wrote; every method raises `DeviceError` (`state`)."""

    def __init__(self, data: bytes) -> None:
        try:
            values = json.loads(data)
        except ValueError:
            raise DeviceError("state") from None
        if not isinstance(values, dict) or values.get("version") != _VERSION:
            raise DeviceError("state")
        self._values = values

    def text(self, name: str) -> str:
        """Return a text."""
        value = self._values.get(name)
        if not isinstance(value, str):
            raise DeviceError("state")
        return value

    def number(self, name: str) -> int:
        """Return a number."""
        value = self._values.get(name)
        if not isinstance(value, int) or value < 0:
            raise DeviceError("state")
        return value

    def bytes(self, name: str) -> bytes:
        """Return bytes."""
        try:
            return bytes.fromhex(self.text(name))
        except ValueError:
            raise DeviceError("state") from None
