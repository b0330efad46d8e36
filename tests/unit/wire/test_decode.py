"""The messages of decode streams: what is written is read, what is garbage is refused."""

from __future__ import annotations

import contextlib

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.wire.decode import (
    COMMIT,
    HEADER,
    MAX_ROUND,
    Answer,
    DecodeClose,
    DecodeCommit,
    DecodeOpen,
    MemoryModel,
    Request,
    StimModel,
    pack_bits,
    pack_commit,
    pack_rounds,
    read_commit,
    read_rounds,
)

U64 = st.integers(0, 2**64 - 1)


@given(st.integers(0, MAX_ROUND), st.integers(1, 9), st.integers(1, 50), st.booleans(), st.randoms())
def test_rounds_come_out_as_they_went_in(first: int, size: int, number: int, closing: bool, random: object) -> None:
    packed = random.randbytes(size * number)  # type: ignore[attr-defined] # random.Random
    message = pack_rounds(first, packed, size, closing=closing)
    assert read_rounds(message, size) == (first, number, closing)
    assert message[HEADER.size :] == packed


@given(U64, U64, U64, st.integers(0, 2**32 - 1), st.booleans())
def test_commits_come_out_as_they_went_in(committed: int, flips: int, frame: int, worker_ns: int, last: bool) -> None:
    commit = DecodeCommit(committed, flips, frame, worker_ns, last)
    assert read_commit(pack_commit(commit)) == commit
    assert len(pack_commit(commit)) == COMMIT.size


def test_the_layout_is_the_documented_one() -> None:
    message = pack_rounds(0x0102030405060708, b"\x05\x80", 1, closing=True)
    assert message.hex(" ") == "02 00 02 00 00 00 00 00 08 07 06 05 04 03 02 01 05 80"
    commit = pack_commit(DecodeCommit(10, 1, 3, 12_000, last=True))
    assert commit.hex(" ", -8) == "81010000e02e0000 0a00000000000000 0100000000000000 0300000000000000"


def test_a_time_that_does_not_fit_stands_at_its_largest() -> None:
    assert read_commit(pack_commit(DecodeCommit(1, 0, 0, 2**40, last=False))).worker_ns == 2**32 - 1


@given(st.binary(max_size=80), st.integers(1, 8))
def test_garbage_is_read_or_refused_and_nothing_else(data: bytes, size: int) -> None:
    with contextlib.suppress(QedgeError):
        rounds = read_rounds(data, size)
        assert len(data) == HEADER.size + rounds.number * size
        assert pack_rounds(rounds.first, data[HEADER.size :], size, closing=rounds.closing) == data
    with contextlib.suppress(QedgeError):
        assert pack_commit(read_commit(data)) == data


@given(st.text(max_size=200))
def test_text_that_is_no_control_message_is_refused(text: str) -> None:
    for kind in (Request, Answer):
        with contextlib.suppress(msgspec.DecodeError, UnicodeError):
            msgspec.json.decode(text, type=kind)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        HEADER.pack(1, 0, 0, 0, 0),
        HEADER.pack(3, 0, 1, 0, 0) + b"\0",
        HEADER.pack(1, 1, 1, 0, 0) + b"\0",
        HEADER.pack(1, 0, 1, 1, 0) + b"\0",
        HEADER.pack(1, 0, 1, 0, 2**63) + b"\0",
        HEADER.pack(1, 0, 2, 0, 0) + b"\0",
        HEADER.pack(1, 0, 1, 0, 0) + b"\0\0",
    ],
)
def test_a_malformed_message_of_rounds_is_refused(message: bytes) -> None:
    with pytest.raises(QedgeError) as caught:
        read_rounds(message, 1)
    assert caught.value.code == "decode.bad_frame"


@pytest.mark.parametrize("packed", [b"", b"\0" * 3, b"\0" * 2 * 65_536])
def test_rounds_that_cannot_be_written_are_refused(packed: bytes) -> None:
    with pytest.raises(QedgeError) as caught:
        pack_rounds(0, packed, 2)
    assert caught.value.code == "decode.bad_frame"


@given(st.lists(st.lists(st.booleans(), min_size=11, max_size=11), min_size=1, max_size=9))
def test_bits_are_packed_with_the_first_detector_lowest(rounds: list[list[bool]]) -> None:
    wanted = np.packbits(np.array(rounds, dtype=np.uint8), axis=1, bitorder="little").tobytes()
    assert pack_bits(rounds, 2) == wanted


def test_events_beyond_the_bytes_of_a_round_are_refused() -> None:
    with pytest.raises(QedgeError) as caught:
        pack_bits([[0] * 8 + [1]], 1)
    assert caught.value.code == "decode.bad_frame"


@pytest.mark.parametrize(
    "request_", [DecodeOpen(MemoryModel(distance=5)), DecodeOpen(StimModel("", 2), 10, 5, 100), DecodeClose()]
)
def test_control_messages_come_out_as_they_went_in(request_: DecodeOpen | DecodeClose) -> None:
    assert msgspec.json.decode(msgspec.json.encode(request_), type=Request) == request_
