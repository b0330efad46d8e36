"""Frames between daemon and worker: what goes in comes out, and nonsense is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.workers.frames import (
    LENGTH,
    MAX_FRAME_BYTES,
    Frame,
    Kind,
    check_length,
    decode,
    decode_body,
    encode,
    encode_body,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(st.sampled_from(Kind), st.integers(0, 2**31), st.text(max_size=50), values)
def test_a_frame_comes_back_as_it_went(kind: Kind, call_id: int, name: str, body: object) -> None:
    frame = Frame(kind, call_id, name, body)
    data = encode(frame)
    assert check_length(data[: LENGTH.size]) == len(data) - LENGTH.size
    assert decode(data[LENGTH.size :]) == frame
    assert decode_body(encode_body(frame.msg)) == body


@given(st.binary(max_size=300))
def test_nonsense_is_an_error_and_nothing_else(data: bytes) -> None:
    for read in (decode, decode_body):
        try:
            read(data)
        except QedgeError as error:
            assert error.code == "worker.bad_answer"


@given(st.integers(MAX_FRAME_BYTES + 1, 2**32 - 1))
def test_a_length_beyond_the_limit_is_refused_before_anything_is_allocated(length: int) -> None:
    with pytest.raises(QedgeError):
        check_length(LENGTH.pack(length))


def test_deep_nesting_is_an_error() -> None:
    with pytest.raises(QedgeError):
        decode_body(b"\x91" * 100_000)
