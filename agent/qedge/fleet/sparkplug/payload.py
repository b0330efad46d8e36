"""The Sparkplug B payload as bytes: proto2, written and read by a small codec of our own (decision 0095). Pure.

Only what an edge node of scalar metrics writes and has to read is known here; every other field is stepped over, as
protobuf demands. Field numbers are those of package `org.eclipse.tahu.protobuf`. proto2 keeps presence: what is set is
on the wire also where it is 0 or false, above all `seq` 0 of an NBIRTH (tck-id-payloads-sequence-num-zero-nbirth).
"""

from __future__ import annotations

import struct
from typing import Final

from qedge.base.errors import QedgeError
from qedge.fleet.sparkplug.model import DataType, Metric, Payload, Quality, Value

MAX_PAYLOAD_BYTES: Final = 256 * 1024
MAX_METRICS: Final = 10_000
"""Most metrics of a payload that is read."""

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5
_QUALITY: Final = "Quality"
_NARROW: Final = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32}
_WIDE: Final = {DataType.INT64: 64}
_UNSIGNED: Final = {DataType.UINT8: 8, DataType.UINT16: 16, DataType.UINT32: 32, DataType.UINT64: 64}
_LONG: Final = frozenset({DataType.INT64, DataType.UINT64, DataType.DATE_TIME})
_TEXTS: Final = frozenset({DataType.STRING, DataType.TEXT, DataType.UUID})
_REALS: Final = frozenset({DataType.FLOAT, DataType.DOUBLE})
_BLOBS: Final = frozenset({DataType.BYTES, DataType.FILE})
_SMALL: Final = tuple(bytes([number]) for number in range(0x80))


def encode_payload(payload: Payload, *, datatypes: bool = True) -> bytes:
    """Write a payload; raises `ValueError` for a value that its data type cannot hold.

    Without `datatypes` the type of a metric decides its field and is itself left out, as in NDATA and DDATA
    (tck-id-payloads-metric-datatype-not-req): hosts know it from the birth.
    """
    out = bytearray()
    if payload.timestamp_ms is not None:
        out += b"\x08" + _varint(payload.timestamp_ms)
    for metric in payload.metrics:
        body = _metric(metric, datatypes)
        out += b"\x12" + _varint(len(body)) + body
    if payload.seq is not None:
        out += b"\x18" + _varint(payload.seq)
    return bytes(out)


def decode_payload(data: bytes) -> Payload:
    """Read a payload; raises `bus.bad_message` for what is no payload, or too large a one."""
    if len(data) > MAX_PAYLOAD_BYTES:
        raise _bad(f"{len(data)} bytes")
    timestamp: int | None = None
    seq: int | None = None
    metrics: list[Metric] = []
    for number, kind, value in _fields(data):
        if number == 1 and kind == _VARINT:
            timestamp = int(value)
        elif number == 3 and kind == _VARINT:
            seq = int(value)
        elif number == 2 and isinstance(value, bytes) and kind == _BYTES:
            if len(metrics) == MAX_METRICS:
                raise _bad("too many metrics")
            metrics.append(_read_metric(value))
    return Payload(timestamp, tuple(metrics), seq)


def convert(value: Value | None, datatype: DataType) -> Value:
    """Bring a value that was read to its data type; raises `bus.bad_message` where the two do not go together.

    Signed numbers are cut to their width and sign-extended, since some peers write a negative Int8 in 8 bits and others
    in 32. tck-id-operational-behavior-data-commands-ncmd-metric-value and -dcmd-metric-value are the host's to keep;
    what breaks them has no effect here.
    """
    if datatype is DataType.BOOLEAN and isinstance(value, bool):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        bits = _NARROW.get(datatype) or _WIDE.get(datatype)
        if bits:
            low = value & (1 << bits) - 1
            return low - (1 << bits) if low >> bits - 1 else low
        if datatype is DataType.DATE_TIME or (datatype in _UNSIGNED and 0 <= value < 1 << _UNSIGNED[datatype]):
            return value
    if datatype in _REALS and isinstance(value, float):
        return value
    if datatype in _TEXTS and isinstance(value, str):
        return value
    if datatype in _BLOBS and isinstance(value, bytes):
        return value
    raise _bad(f"a value of {type(value).__name__} for {datatype.name}")


def fits(value: Value, datatype: DataType) -> bool:
    """Say whether a value can be written as a data type."""
    try:
        _value(datatype, value)
    except (ValueError, OverflowError, struct.error):
        return False
    return True


def _metric(metric: Metric, datatypes: bool) -> bytes:
    """Write name, time and type as they are given, and the value in the field of the type, or null.

    tck-id-payloads-{name-requirement,name-birth-data-requirement}, tck-id-payloads-metric-timestamp-in-UTC,
    tck-id-payloads-metric-datatype-value-type.
    """
    out = bytearray()
    if metric.name or metric.alias is None:
        out += b"\x0a" + _text(metric.name)
    if metric.alias is not None:
        out += b"\x10" + _varint(metric.alias)
    if metric.timestamp_ms is not None:
        out += b"\x18" + _varint(metric.timestamp_ms)
    if metric.datatype is not None and datatypes:
        out += b"\x20" + _varint(metric.datatype)
    if metric.is_historical:
        out += b"\x28\x01"
    if metric.value is None:
        out += b"\x38\x01"
    if metric.quality is not Quality.GOOD:
        properties = _quality(metric.quality)
        out += b"\x4a" + _varint(len(properties)) + properties
    if metric.value is not None:
        out += _value(metric.datatype or _guess(metric.value), metric.value)
    return bytes(out)


def _value(datatype: DataType, value: Value) -> bytes:
    """Write the value in the field of its type (numbers in two's complement)."""
    if datatype is DataType.BOOLEAN and isinstance(value, bool):
        return b"\x70\x01" if value else b"\x70\x00"
    if isinstance(value, int) and not isinstance(value, bool):
        if datatype in _REALS:
            value = float(value)
        else:
            return _whole(datatype, value)
    if isinstance(value, float) and datatype is DataType.FLOAT:
        return b"\x65" + struct.pack("<f", value)
    if isinstance(value, float) and datatype is DataType.DOUBLE:
        return b"\x69" + struct.pack("<d", value)
    if isinstance(value, str) and datatype in _TEXTS:
        return b"\x7a" + _text(value)
    if isinstance(value, bytes) and datatype in _BLOBS:
        return b"\x82\x01" + _varint(len(value)) + value
    raise ValueError(f"a {type(value).__name__} as {datatype.name}")


def _whole(datatype: DataType, value: int) -> bytes:
    signed = _NARROW.get(datatype) or _WIDE.get(datatype)
    if signed:
        if not -(1 << signed - 1) <= value < 1 << signed - 1:
            raise ValueError(f"{value} as {datatype.name}")
        low = value & (1 << (64 if datatype in _LONG else 32)) - 1
    else:
        bits = 64 if datatype is DataType.DATE_TIME else _UNSIGNED.get(datatype, 0)
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{value} as {datatype.name}")
        low = value
    return (b"\x58" if datatype in _LONG else b"\x50") + _varint(low)


def _guess(value: Value) -> DataType:
    if isinstance(value, bool):
        return DataType.BOOLEAN
    if isinstance(value, int):
        return DataType.INT64
    if isinstance(value, float):
        return DataType.DOUBLE
    return DataType.STRING if isinstance(value, str) else DataType.BYTES


def _quality(quality: Quality) -> bytes:
    """A PropertySet of one key, whose value is an Int32 in `int_value`.

    tck-id-payloads-propertyset-{keys,values}-array-size, tck-id-payloads-propertyset-quality-value-type,
    tck-id-payloads-metric-propertyvalue-type-{type,value,req}.
    """
    value = b"\x08" + _varint(DataType.INT32) + b"\x18" + _varint(quality)
    return b"\x0a" + _text(_QUALITY) + b"\x12" + _varint(len(value)) + value


def _read_metric(data: bytes) -> Metric:
    name, historical, null, quality = "", False, False, Quality.GOOD
    alias: int | None = None
    timestamp: int | None = None
    datatype: int | None = None
    raw: Value | None = None
    for number, kind, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            name = _utf8(value)
        elif kind == _VARINT and number in (2, 3, 4, 5, 7):
            whole = int(value)
            if number == 2:
                alias = whole
            elif number == 3:
                timestamp = whole
            elif number == 4:
                datatype = whole
            elif number == 5:
                historical = bool(whole)
            else:
                null = bool(whole)
        elif number == 9 and isinstance(value, bytes):
            quality = _read_quality(value)
        elif 10 <= number <= 16:
            raw = _read_value(number, kind, value)
    known = DataType(datatype) if datatype is not None and 1 <= datatype <= DataType.TEMPLATE else None
    return Metric(name, known, None if null else _typed(raw, known), timestamp, alias, historical, quality)


def _typed(raw: Value | None, datatype: DataType | None) -> Value | None:
    """Bring a value to the type that stands beside it; as it is where the two do not go together."""
    if raw is None or datatype is None:
        return raw
    try:
        return convert(raw, datatype)
    except QedgeError:
        return raw


def _read_value(number: int, kind: int, value: int | bytes) -> Value | None:
    if number in (10, 11) and kind == _VARINT:
        return int(value)
    if number == 14 and kind == _VARINT:
        return bool(value)
    if not isinstance(value, bytes):
        return None
    if number == 12 and kind == _FIXED32:
        return float(struct.unpack("<f", value)[0])
    if number == 13 and kind == _FIXED64:
        return float(struct.unpack("<d", value)[0])
    if number == 15 and kind == _BYTES:
        return _utf8(value)
    return value if number == 16 and kind == _BYTES else None


def _read_quality(data: bytes) -> Quality:
    keys: list[str] = []
    values: list[int] = []
    for number, kind, value in _fields(data):
        if not isinstance(value, bytes) or kind != _BYTES:
            continue
        if number == 1:
            keys.append(_utf8(value))
        elif number == 2:
            values.append(next((int(inner) for which, _, inner in _fields(value) if which == 3), -1))
    found = dict(zip(keys, values, strict=False)).get(_QUALITY, Quality.GOOD)
    return Quality(found) if found in list(Quality) else Quality.BAD


def _fields(data: bytes) -> list[tuple[int, int, int | bytes]]:
    """Split a message into (number, wire type, value): an int of a varint, otherwise its bytes."""
    found: list[tuple[int, int, int | bytes]] = []
    at, end = 0, len(data)
    while at < end:
        key, at = _read_varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise _bad("field 0")
        if kind == _VARINT:
            whole, at = _read_varint(data, at)
            found.append((number, kind, whole))
            continue
        if kind == _BYTES:
            length, at = _read_varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise _bad(f"wire type {kind}")
        if length > end - at:
            raise _bad("it ends early")
        found.append((number, kind, data[at : at + length]))
        at += length
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _bad("it ends early")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise _bad("a number of more than ten bytes")


def _varint(value: int) -> bytes:
    if 0 <= value < 0x80:
        return _SMALL[value]
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{value} is no unsigned number of 64 bits")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(text: str) -> bytes:
    data = text.encode()
    return _varint(len(data)) + data


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _bad("a text that is no UTF-8") from None


def _bad(why: str) -> QedgeError:
    return QedgeError("bus.bad_message", f"A Sparkplug payload cannot be read: {why}.")
