"""MQTT 5 properties (§2.2.2.2) of publications without what paho repeats for each of them.

paho's `Properties` makes its tables of all 27 properties anew in every object and goes through them by name to write
and to read one; two of these objects cost a short message as much as all else in the library. Here the tables are
shared, and the bytes of what is published or received again and again are made and read once.
"""

from __future__ import annotations

import functools
from typing import Final

from paho.mqtt import _packet
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers

_TABLES: Final = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho has no types
_SHORT_BYTES: Final = 8
"""Properties up to here are remembered: those of a message that only expires, not those with an id of their own."""


class SharedProperties(Properties):
    """The same as paho's, with tables of the class."""

    types = _TABLES.types
    names = _TABLES.names
    properties = _TABLES.properties

    def __init__(self, packet: int) -> None:
        object.__setattr__(self, "packetType", packet)

    def unpack(self, buffer: bytes) -> tuple[Properties, int]:
        """Read properties from the beginning of `buffer`; return them and how many bytes they take."""
        length, used = VariableByteIntegers.decode(buffer)  # type: ignore[no-untyped-call] # paho has no types
        end = length + used
        if length == 0 or length > _SHORT_BYTES or len(buffer) < end:
            if length:
                super().unpack(buffer)  # type: ignore[no-untyped-call] # paho has no types
            return self, end
        for name, value in _read(self.packetType, bytes(buffer[:end])):
            object.__setattr__(self, name, value)
        return self, end


class PackedProperties(SharedProperties):
    """Properties that do not change any more once they were written."""

    def pack(self) -> bytes:
        """Return the bytes, made once."""
        packed = vars(self).get("packed")
        if packed is None:
            packed = bytes(super().pack())  # type: ignore[no-untyped-call] # paho has no types
            object.__setattr__(self, "packed", packed)
        return bytes(packed)


@functools.lru_cache(maxsize=128)
def _read(packet: int, packed: bytes) -> tuple[tuple[str, object], ...]:
    found = Properties(packet)  # type: ignore[no-untyped-call] # paho has no types
    found.unpack(packed)  # type: ignore[no-untyped-call] # paho has no types
    return tuple((name, value) for name, value in vars(found).items() if name[0].isupper())


def share_tables() -> None:
    """Have paho read what arrives into `SharedProperties`."""
    vars(_packet)["Properties"] = SharedProperties
