"""A second reader of Sparkplug payloads, which shares nothing with the product: every field as it is on the wire."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

VALUE_FIELDS = {10: "int", 11: "long", 12: "float", 13: "double", 14: "boolean", 15: "string", 16: "bytes"}


def wire_fields(data: bytes) -> list[tuple[int, int, int | bytes]]:
    """Split into (number, wire type, value)."""
    found: list[tuple[int, int, int | bytes]] = []
    while data:
        key, data = _number(data)
        kind = key % 8
        if kind == 0:
            whole, data = _number(data)
            found.append((key // 8, kind, whole))
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            assert kind == 2, kind
            size, data = _number(data)
        assert len(data) >= size
        found.append((key // 8, kind, data[:size]))
        data = data[size:]
    return found


def _number(data: bytes) -> tuple[int, bytes]:
    value = 0
    for place, byte in enumerate(data):
        value += (byte % 128) * 128**place
        if byte < 128:
            return value, data[place + 1 :]
    raise AssertionError("a number without an end")


@dataclass
class WireMetric:
    """A metric: which fields are there, and the value with the name of its field."""

    present: set[int]
    name: str = ""
    alias: int = -1
    timestamp: int = -1
    datatype: int = -1
    historical: bool = False
    null: bool = False
    value: object = None
    value_field: str = ""
    properties: list[tuple[str, list[tuple[int, int, int | bytes]]]] = field(default_factory=list)
    property_counts: tuple[int, int] = (0, 0)


@dataclass
class WirePayload:
    """A payload: which fields are there, and what they hold."""

    present: list[int]
    timestamp: int = -1
    seq: int = -1
    metrics: list[WireMetric] = field(default_factory=list)

    def metric(self, name: str) -> WireMetric:
        """Return the one metric of a name."""
        (found,) = [each for each in self.metrics if each.name == name]
        return found

    def names(self) -> list[str]:
        """Return all names in their order."""
        return [each.name for each in self.metrics]


def read(data: bytes) -> WirePayload:
    """Read a payload."""
    fields = wire_fields(data)
    found = WirePayload([number for number, _, _ in fields])
    for number, _, value in fields:
        if number == 1:
            assert isinstance(value, int)
            found.timestamp = value
        elif number == 3:
            assert isinstance(value, int)
            found.seq = value
        elif number == 2:
            assert isinstance(value, bytes)
            found.metrics.append(_metric(value))
    return found


def _metric(data: bytes) -> WireMetric:
    fields = wire_fields(data)
    found = WireMetric({number for number, _, _ in fields})
    for number, _, value in fields:
        if isinstance(value, int):
            if number == 2:
                found.alias = value
            elif number == 3:
                found.timestamp = value
            elif number == 4:
                found.datatype = value
            elif number == 5:
                found.historical = bool(value)
            elif number == 7:
                found.null = bool(value)
            elif number in (10, 11, 14):
                found.value, found.value_field = (bool(value) if number == 14 else value), VALUE_FIELDS[number]
        elif number == 1:
            found.name = value.decode()
        elif number == 9:
            _properties(found, value)
        elif number in VALUE_FIELDS:
            found.value_field = VALUE_FIELDS[number]
            form = {12: "<f", 13: "<d"}.get(number)
            found.value = struct.unpack(form, value)[0] if form else value.decode() if number == 15 else value
    return found


def _properties(metric: WireMetric, data: bytes) -> None:
    fields = wire_fields(data)
    keys = [value.decode() for number, _, value in fields if number == 1 and isinstance(value, bytes)]
    values = [wire_fields(value) for number, _, value in fields if number == 2 and isinstance(value, bytes)]
    metric.property_counts = (len(keys), len(values))
    metric.properties = list(zip(keys, values, strict=True))
