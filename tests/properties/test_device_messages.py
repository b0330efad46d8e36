"""Messages of devices: what is written is read back, and no bytes whatever break a reader."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.wire.attached import pack_reading, unpack_reading
from qedge_device.constrained import ConstrainedDevice
from qedge_device.enrolling import Enrol, Enrolled, Invitation, KemStatement
from qedge_device.kept import Counter, Kept
from qedge_device.messages import (
    MAX_CONNECT_COUNTER,
    Ask,
    Challenge,
    Join,
    Joined,
    MessageError,
    Opened,
    Pending,
    Prove,
    Refused,
    Resume,
    Resumed,
)
from qedge_device.reading import DeviceError, pack, unpack
from qedge_device.rich_state import RichState

BYTES = st.binary(max_size=200)
SMALL = st.integers(0, 255)
NAME = st.from_regex(r"[A-Za-z0-9_-]{1,36}", fullmatch=True)


def of(size: int) -> st.SearchStrategy[bytes]:
    """Return bytes of a size."""
    return st.binary(min_size=size, max_size=size)


def number(size: int) -> st.SearchStrategy[int]:
    """Return a number of a size."""
    return st.integers(0, 256**size - 1)


MESSAGES: dict[Any, st.SearchStrategy[Any]] = {
    Ask: st.builds(Ask, BYTES, of(8), of(32)),
    Challenge: st.builds(Challenge, SMALL, of(32), of(16), BYTES),
    Prove: st.builds(Prove, of(32), of(32), of(16), SMALL, of(8), BYTES, BYTES, BYTES, BYTES),
    Opened: st.builds(Opened, number(4), number(4), BYTES, BYTES, BYTES, of(32)),
    Resume: st.builds(Resume, st.integers(0, MAX_CONNECT_COUNTER), of(8), SMALL, of(32), BYTES, of(32)),
    Resumed: st.builds(Resumed, number(4), number(4), of(16), of(32), of(32)),
    Join: st.builds(Join, number(4), of(8), of(16)),
    Joined: st.builds(Joined, SMALL, of(16), of(16)),
    Pending: st.builds(Pending, number(2)),
    Refused: st.builds(Refused, SMALL, number(2)),
    Enrol: st.builds(Enrol, SMALL, NAME, SMALL, BYTES, of(32), BYTES, BYTES, BYTES, BYTES, of(32)),
    Enrolled: st.builds(Enrolled, NAME, SMALL, BYTES, BYTES, BYTES, BYTES, BYTES, of(32)),
    KemStatement: st.builds(KemStatement, NAME, NAME, number(8), number(8), BYTES, BYTES),
}


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_a_message_is_read_as_it_was_written_and_not_with_a_byte_more_or_less(kind: Any) -> None:
    @settings(max_examples=25)
    @given(MESSAGES[kind])
    def check(message: Any) -> None:
        data = message.pack()
        assert kind.read(data) == message
        for wrong in (data + b"\0", data[:-1], b"\x7f" + data[1:]):
            with pytest.raises(MessageError):
                kind.read(wrong)

    check()


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_random_bytes_are_a_message_or_an_error(kind: Any) -> None:
    @settings(max_examples=40)
    @given(st.binary(max_size=300))
    def check(data: bytes) -> None:
        for candidate in (data, MESSAGES_FIRST[kind] + data):
            with contextlib.suppress(MessageError):
                assert kind.read(candidate).pack() == candidate

    check()


MESSAGES_FIRST = {
    Ask: b"\x01",
    Challenge: b"\x81",
    Prove: b"\x02",
    Opened: b"\x82",
    Resume: b"\x03",
    Resumed: b"\x83",
    Join: b"\x04",
    Joined: b"\x84",
    Pending: b"\x86",
    Refused: b"\x87",
    Enrol: b"\x05",
    Enrolled: b"\x85",
    KemStatement: b"\x41",
}


@settings(max_examples=25)
@given(st.builds(Invitation, NAME, NAME, NAME, NAME, NAME, of(32), number(8), of(16), of(32), NAME, of(32)))
def test_an_invitation_is_one_line_that_is_read_as_it_was_written(invitation: Invitation) -> None:
    line = invitation.write()
    assert "\n" not in line
    assert Invitation.read(f"  {line}\n") == invitation
    assert invitation.token.hex() not in repr(invitation)


@given(st.text(max_size=200))
def test_any_text_is_an_invitation_or_an_error_that_does_not_quote_it(text: str) -> None:
    for line in (text, "qedge-device1:" + text):
        with pytest.raises(MessageError) as error:
            Invitation.read(line)
        assert len(text) < 8 or text not in str(error.value)


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_file_is_a_state_or_an_error(data: bytes) -> None:
    with pytest.raises(DeviceError):
        RichState.read(Kept(data))
    with pytest.raises(DeviceError):
        ConstrainedDevice.load(data, random_bytes=bytes)


@settings(max_examples=40)
@given(NAME, st.binary(max_size=100))
def test_readings_of_the_library_are_those_of_the_node(channel: str, body: bytes) -> None:
    assert pack(channel, body) == pack_reading(channel, body)
    assert unpack(pack_reading(channel, body)) == unpack_reading(pack(channel, body)) == (channel, body)


@given(st.binary(max_size=60))
def test_the_library_and_the_node_refuse_the_same_insides(inside: bytes) -> None:
    try:
        expected = unpack_reading(inside)
    except ValueError:
        with pytest.raises(DeviceError):
            unpack(inside)
    else:
        assert unpack(inside) == expected


@settings(max_examples=40)
@given(st.lists(st.booleans(), max_size=120))
def test_a_counter_never_repeats_however_often_the_power_fails(steps: list[bool]) -> None:
    counter, kept, seen = Counter(), 0, set[int]()
    for fails in steps:
        if fails:
            counter = Counter(kept)
        number = counter.take()
        kept = counter.kept  # written before the number is used, as the guide says
        assert number not in seen
        seen.add(number)
