"""Nouns of telemetry."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from qedge.wire.telemetry import (
    Alarm,
    DriverReading,
    EntropyReading,
    GatewayReading,
    HostReading,
    JobsReading,
    LinkReading,
    NodeHealth,
    Telemetry,
    TelemetryClass,
    TelemetryEvent,
)

KINDS: Final = tuple(TelemetryClass)
"""All classes, from the first to be sent to the first to give way."""

FIRST_COME: Final = (TelemetryClass.ALARM,)
"""Classes of which memory keeps the first: what was wrong first may be the cause of all that follows."""


URGENT: Final = (TelemetryClass.ALARM, TelemetryClass.HEALTH)
"""Classes that are written also on a full disk, which may be what they tell of; they are few."""


class Item(NamedTuple):
    """One thing that a node says of itself, and when (wall time)."""

    utc_ns: int
    body: Telemetry


class Waiting(NamedTuple):
    """An item before it has its number; `series` tells those apart that are thinned out each by itself."""

    utc_ns: int
    series: str
    body: bytes


class Row(NamedTuple):
    """An item on the disk. `id` grows over all classes, `sequence` in its class."""

    id: int
    kind: TelemetryClass
    sequence: int
    utc_ns: int
    series: str
    body: bytes


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODER: Final = msgspec.msgpack.Decoder(Telemetry)


def kind_of(body: Telemetry) -> TelemetryClass:
    """Return the class of an item."""
    match body:
        case Alarm():
            return TelemetryClass.ALARM
        case TelemetryEvent():
            return TelemetryClass.EVENT
        case NodeHealth():
            return TelemetryClass.HEALTH
        case _:
            return TelemetryClass.READING


def series_of(body: Telemetry) -> str:
    """Return the name of the series that an item belongs to."""
    match body:
        case DriverReading():
            return f"driver {body.driver}"
        case LinkReading():
            return f"link {body.link}"
        case Alarm() | TelemetryEvent():
            return f"{body.name} {body.subject}"
        case HostReading() | JobsReading() | EntropyReading() | GatewayReading() | NodeHealth():
            return str(body.__struct_config__.tag)


def written(item: Item) -> Waiting:
    """Write an item as it lies on the disk."""
    return Waiting(item.utc_ns, series_of(item.body), _ENCODE(item.body))


def read(body: bytes) -> Telemetry:
    """Read what `written` wrote; raises `msgspec.DecodeError`."""
    found: Telemetry = _DECODER.decode(body)
    return found
