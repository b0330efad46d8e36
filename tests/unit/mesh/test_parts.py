"""Large messages come through in pieces, in any order, and within bounds."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.mesh.direct import PART_BYTES
from qedge.mesh.parts import MAX_MESSAGE_BYTES, MAX_OPEN, MAX_SENT, Assembler, split
from qedge.wire.envelope import MAX_BYTES, Header, encode, purpose_of
from qedge.wire.session import Part


@given(st.binary(max_size=600), st.integers(1, 100), st.randoms(use_true_random=False))
def test_a_message_comes_together_in_any_order(data: bytes, part_bytes: int, rng: Random) -> None:
    parts = list(split(data, part_bytes, 1))
    assert all(len(part.data) <= part_bytes for part in parts)
    rng.shuffle(parts)
    assembler = Assembler()
    assert [assembler.take(part) for part in parts] == [None] * (len(parts) - 1) + [data]


def test_as_many_messages_as_are_sent_at_once_come_through_beside_some_that_were_given_up() -> None:
    assembler = Assembler()
    for message_id in range(100, 100 + MAX_OPEN - MAX_SENT):
        assert assembler.take(Part(message_id, 0, 2, b"given up")) is None
    messages = [list(split(bytes([number]) * 9, 4, number)) for number in range(MAX_SENT)]
    whole = [assembler.take(part) for turn in zip(*messages, strict=True) for part in turn]
    assert whole[-MAX_SENT:] == [bytes([number]) * 9 for number in range(MAX_SENT)]


def test_one_message_too_many_makes_the_oldest_go() -> None:
    assembler = Assembler()
    for message_id in range(MAX_OPEN + 1):
        assert assembler.take(Part(message_id, 0, 2, b"a")) is None
    assert assembler.take(Part(1, 1, 2, b"b")) == b"ab"
    assert assembler.take(Part(0, 1, 2, b"b")) is None


def test_a_part_on_the_direct_channel_fits_in_an_envelope_with_the_longest_names() -> None:
    part = Part(2**63 - 1, 4095, 4096, bytes(PART_BYTES))
    where = f"direct/{'a' * 36}/{'b' * 36}"
    header = Header(where, "a" * 36, 2**63 - 1, purpose_of(Part), 2**63 - 1, 2**63 - 1)
    assert len(encode(header, part)) <= MAX_BYTES


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Part(1, 0, 2, b"a"), Part(1, 0, 2, b"a")),
        (Part(1, 0, 2, b"a"), Part(1, 1, 3, b"a")),
        (Part(1, 0, 2, b"a"), Part(1, 2, 2, b"a")),
    ],
    ids=["twice", "another count", "beyond the count"],
)
def test_parts_that_do_not_fit_are_refused(first: Part, second: Part) -> None:
    assembler = Assembler()
    assembler.take(first)
    with pytest.raises(QedgeError) as error:
        assembler.take(second)
    assert error.value.code == "bus.bad_message"


def test_what_is_held_is_bounded() -> None:
    assembler = Assembler(max_bytes=10)
    with pytest.raises(QedgeError) as error:
        assembler.take(Part(1, 0, 2, bytes(11)))
    assert error.value.code == "bus.too_large"
    with pytest.raises(QedgeError) as error:
        next(split(bytes(MAX_MESSAGE_BYTES + 1), 1000, 1))
    assert error.value.code == "bus.too_large"
