"""Large values of rows are kept packed."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.store import packing
from qedge.store.packing import pack, unpack


def counts(seed: int) -> bytes:
    """Return counts of 18 bits and many shots as they are kept."""
    draw = random.Random(seed)
    return msgspec.msgpack.encode({format(draw.getrandbits(18), "018b"): draw.randrange(1, 4) for _ in range(12_000)})


def test_a_large_result_is_kept_in_less_than_a_third_and_comes_back_as_it_was() -> None:
    value = counts(1)
    assert len(pack(value)) < len(value) / 3
    assert unpack(pack(value)) == value


def test_small_values_and_what_packing_makes_larger_stay_as_they_are() -> None:
    noise = random.Random(2).randbytes(100_000)
    small = msgspec.msgpack.encode({"a": 1})
    assert pack(small) == small
    assert pack(noise) == noise


@given(st.recursive(st.integers(-5, 5) | st.text(max_size=9) | st.binary(max_size=40), st.lists, max_leaves=30))
def test_whatever_was_written_is_read_again(value: object) -> None:
    data = msgspec.msgpack.encode([value] * 2000)
    assert unpack(pack(data)) == data
    assert unpack(data) == data  # rows of earlier versions


def test_a_damaged_value_and_one_that_grows_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(counts(3))
    with pytest.raises(msgspec.DecodeError):
        unpack(packed[:-100])
    with pytest.raises(msgspec.DecodeError):
        unpack(packed[:50] + b"\x00\xff" * 40 + packed[130:])
    monkeypatch.setattr(packing, "MAX_BYTES", 1000)
    with pytest.raises(msgspec.DecodeError):
        unpack(packed)
