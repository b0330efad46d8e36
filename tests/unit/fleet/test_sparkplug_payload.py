"""The Sparkplug payload codec: both ways, against a reader that shares nothing with it, and with hostile bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.fleet.sparkplug.model import DataType, Metric, Payload, Quality, Value
from qedge.fleet.sparkplug.payload import MAX_METRICS, convert, decode_payload, encode_payload, fits
from tests.conformance.sparkplug.protobuf_text import read

U64 = st.integers(0, 2**64 - 1)
VALUES: dict[DataType, st.SearchStrategy[Value]] = {
    DataType.INT8: st.integers(-(2**7), 2**7 - 1),
    DataType.INT16: st.integers(-(2**15), 2**15 - 1),
    DataType.INT32: st.integers(-(2**31), 2**31 - 1),
    DataType.INT64: st.integers(-(2**63), 2**63 - 1),
    DataType.UINT8: st.integers(0, 2**8 - 1),
    DataType.UINT16: st.integers(0, 2**16 - 1),
    DataType.UINT32: st.integers(0, 2**32 - 1),
    DataType.UINT64: U64,
    DataType.FLOAT: st.floats(width=32, allow_nan=False),
    DataType.DOUBLE: st.floats(allow_nan=False),
    DataType.BOOLEAN: st.booleans(),
    DataType.STRING: st.text(),
    DataType.TEXT: st.text(),
    DataType.UUID: st.text(),
    DataType.DATE_TIME: U64,
    DataType.BYTES: st.binary(),
    DataType.FILE: st.binary(),
}


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    datatype = draw(st.sampled_from(list(VALUES)))
    return Metric(
        draw(st.text(min_size=1)),
        datatype,
        draw(st.none() | VALUES[datatype]),
        draw(st.none() | U64),
        draw(st.none() | U64),
        draw(st.booleans()),
        draw(st.sampled_from(list(Quality))),
    )


PAYLOADS = st.builds(Payload, st.none() | U64, st.lists(metrics(), max_size=8).map(tuple), st.none() | U64)


@settings(max_examples=25, deadline=None)
@given(PAYLOADS)
def test_what_is_written_is_read_back(payload: Payload) -> None:
    assert decode_payload(encode_payload(payload)) == payload


@settings(max_examples=25, deadline=None)
@given(PAYLOADS)
def test_another_reader_finds_the_same(payload: Payload) -> None:
    found = read(encode_payload(payload))
    assert found.seq == (-1 if payload.seq is None else payload.seq)
    assert found.timestamp == (-1 if payload.timestamp_ms is None else payload.timestamp_ms)
    for said, metric in zip(payload.metrics, found.metrics, strict=True):
        assert (metric.name, metric.datatype, metric.null) == (said.name, said.datatype, said.value is None)
        assert metric.historical == said.is_historical
        if isinstance(said.value, int) and not isinstance(said.value, bool):
            width = 64 if metric.value_field == "long" else 32
            assert metric.value == said.value % 2**width
        elif said.value is not None:
            assert metric.value == said.value


@settings(max_examples=25, deadline=None)
@given(PAYLOADS)
def test_data_leaves_out_the_types_and_nothing_else(payload: Payload) -> None:
    whole, data = read(encode_payload(payload)), read(encode_payload(payload, datatypes=False))
    for before, after in zip(whole.metrics, data.metrics, strict=True):
        assert after.present == before.present - {4}
        assert (after.value, after.value_field) == (before.value, before.value_field)


@given(st.binary(max_size=200))
def test_hostile_bytes_raise_one_kind_of_error(data: bytes) -> None:
    try:
        decode_payload(data)
    except QedgeError as error:
        assert error.code == "bus.bad_message"


@settings(max_examples=25, deadline=None)
@given(PAYLOADS, st.integers(0, 400), st.integers(0, 255))
def test_a_changed_byte_raises_one_kind_of_error_or_none(payload: Payload, at: int, byte: int) -> None:
    data = bytearray(encode_payload(payload))
    if at < len(data):
        data[at] = byte
    try:
        decode_payload(bytes(data))
    except QedgeError as error:
        assert error.code == "bus.bad_message"


def test_zeros_are_on_the_wire() -> None:
    values: tuple[tuple[DataType, Value], ...] = (
        (DataType.INT64, 0),
        (DataType.INT32, 0),
        (DataType.DOUBLE, 0.0),
        (DataType.FLOAT, 0.0),
        (DataType.BOOLEAN, False),
        (DataType.STRING, ""),
    )
    payload = Payload(0, tuple(Metric("a", kind, value, 0) for kind, value in values), 0)
    found = read(encode_payload(payload))
    assert found.present == [1, *[2] * len(values), 3]
    assert [each.value_field for each in found.metrics] == ["long", "int", "double", "float", "boolean", "string"]
    assert encode_payload(Payload()) == b""


def test_the_bytes_are_those_of_the_specification() -> None:
    """A birth of one metric, written by hand from the field numbers."""
    by_hand = b"\x08\x01" + b"\x12\x0a" + b"\x0a\x01a" + b"\x18\x02" + b"\x20\x04" + b"\x58\xac\x02" + b"\x18\x00"
    assert encode_payload(Payload(1, (Metric("a", DataType.INT64, 300, 2),), 0)) == by_hand


@pytest.mark.parametrize(
    ("raw", "datatype", "value"),
    [
        (251, DataType.INT8, -5),  # one peer writes eight bits
        (2**32 - 5, DataType.INT8, -5),  # another thirty-two
        (2**32 - 5, DataType.INT32, -5),
        (2**64 - 5, DataType.INT64, -5),
        (7, DataType.UINT32, 7),
        (True, DataType.BOOLEAN, True),
        (1.5, DataType.DOUBLE, 1.5),
        ("a", DataType.TEXT, "a"),
    ],
)
def test_values_of_peers_are_brought_to_their_types(raw: Value, datatype: DataType, value: Value) -> None:
    assert convert(raw, datatype) == value


@pytest.mark.parametrize(
    ("raw", "datatype"),
    [
        (1, DataType.BOOLEAN),
        (True, DataType.INT64),
        ("1", DataType.INT64),
        (2**40, DataType.UINT32),
        (None, DataType.STRING),
        (1, DataType.DOUBLE),
        (1, DataType.TEMPLATE),
    ],
)
def test_values_of_another_type_are_refused(raw: Value | None, datatype: DataType) -> None:
    with pytest.raises(QedgeError):
        convert(raw, datatype)


@pytest.mark.parametrize(
    ("value", "datatype"),
    [
        (2**63, DataType.INT64),
        (-1, DataType.UINT64),
        ("a", DataType.INT64),
        (1e300, DataType.FLOAT),
        (1, DataType.STRING),
    ],
)
def test_a_value_that_does_not_fit_is_never_written(value: Value, datatype: DataType) -> None:
    assert not fits(value, datatype)
    with pytest.raises((ValueError, OverflowError, struct.error)):
        encode_payload(Payload(metrics=(Metric("a", datatype, value),)))


def test_fields_that_are_not_known_are_stepped_over() -> None:
    data = encode_payload(Payload(5, (Metric("a", DataType.INT64, 1, 2),), 3))
    strange = b"\x22\x02ab" + b"\x2a\x01c" + b"\x31" + bytes(8) + b"\x3d" + bytes(4) + b"\xf8\x07\x01"
    assert decode_payload(strange + data) == decode_payload(data)


def test_limits_of_what_is_read() -> None:
    with pytest.raises(QedgeError):
        decode_payload(b"\x12\x00" * (MAX_METRICS + 1))
    with pytest.raises(QedgeError):
        decode_payload(bytes(300_000))
