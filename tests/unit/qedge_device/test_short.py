"""Short frames: 11 bytes of overhead, rebuilt counters, a lock against guessing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge_device.frame import FrameError
from qedge_device.short import MAX_FAILURES, ShortOpener, ShortSealer, first_bytes, rebuild_counter

KEY, IV = bytes(range(32)), bytes(range(13))
GOLDEN = "8500006d62cf0169f5ff58a727f44b34"


def _pair(epoch: int = 5, limit: int = 2**32 - 1) -> tuple[ShortSealer, ShortOpener]:
    return ShortSealer(KEY, IV, epoch, limit), ShortOpener(KEY, IV, epoch, limit=limit)


def test_a_short_frame_opens_once_and_costs_11_bytes() -> None:
    sealer, opener = _pair()
    frame = sealer.seal(b"21.5", "t")
    assert len(frame) == 4 + 11
    assert frame.startswith(first_bytes(5))
    assert opener.open(frame, "t") == b"21.5"
    with pytest.raises(FrameError, match="replay"):
        opener.open(frame, "t")


def test_the_wire_format_does_not_change() -> None:
    assert ShortSealer(KEY, IV, 5).seal(b"qedge", "topic").hex() == GOLDEN


@given(st.integers(-1, 2**32 - 2), st.integers(0, 2**16 - 1))
def test_a_rebuilt_counter_is_the_nearest_with_these_bits(top: int, low: int) -> None:
    counter = rebuild_counter(low, top)
    assert counter & 0xFFFF == low
    assert counter >= 0
    others = [each for each in (counter - 2**16, counter + 2**16) if each >= 0]
    assert all(abs(counter - top - 1) <= abs(each - top - 1) for each in others)


def test_loss_of_less_than_half_the_span_goes_unnoticed_and_of_more_is_healed() -> None:
    sealer, opener = _pair()
    for count in (1, 30_000, 32_000, 65_536, 1):
        for _ in range(count - 1):
            sealer.seal(b"", "t")
        lost = 0
        while True:
            try:
                assert opener.open(sealer.seal(b"x", "t"), "t") == b"x"
                break
            except FrameError:
                lost += 1
                opener.forgive()
        assert lost <= 2**14  # every so often the whole counter is sent


def test_frames_come_out_of_order_within_the_window() -> None:
    sealer, opener = _pair()
    frames = [sealer.seal(bytes([n]), "t") for n in range(200)]
    for frame in reversed(frames):
        opener.open(frame, "t")
    late = [sealer.seal(b"", "t") for _ in range(300)]
    opener.open(late[-1], "t")
    with pytest.raises(FrameError, match="replay"):
        opener.open(late[0], "t")


def test_topic_epoch_and_key_are_bound() -> None:
    sealer, opener = _pair()
    frame = sealer.seal(b"abc", "t")
    with pytest.raises(FrameError, match="open"):
        opener.open(frame, "u")
    with pytest.raises(FrameError, match="key"):
        ShortOpener(KEY, IV, 6).open(frame, "t")
    with pytest.raises(FrameError, match="open"):
        ShortOpener(KEY[::-1], IV, 5).open(frame, "t")
    assert opener.open(frame, "t") == b"abc"


def test_guessing_locks_the_session_until_it_is_forgiven() -> None:
    sealer, opener = _pair()
    frame = sealer.seal(b"abc", "t")
    for guess in range(MAX_FAILURES):
        with pytest.raises(FrameError, match="open"):
            opener.open(frame[:-1] + bytes([frame[-1] ^ guess + 1]), "t")
    assert opener.locked
    with pytest.raises(FrameError, match="locked"):
        opener.open(frame, "t")
    opener.forgive()
    assert opener.open(frame, "t") == b"abc"


def test_a_session_ends_at_its_limit_at_both_sides() -> None:
    sealer, opener = _pair(limit=1)
    open_ended = ShortSealer(KEY, IV, 5)
    for _ in range(2):
        opener.open(sealer.seal(b"", "t"), "t")
        open_ended.seal(b"", "t")
    with pytest.raises(FrameError, match="exhausted"):
        sealer.seal(b"", "t")
    with pytest.raises(FrameError, match="exhausted"):
        opener.open(open_ended.seal(b"", "t"), "t")


@given(st.binary(max_size=60))
def test_random_bytes_are_never_accepted(data: bytes) -> None:
    with pytest.raises(FrameError):
        _pair()[1].open(data, "t")
