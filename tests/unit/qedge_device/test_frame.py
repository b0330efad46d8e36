"""Frames: what one end seals only the other end opens, once, on the same topic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge_device import MAX_COUNTER, OVERHEAD_BYTES, FrameError, Opener, ReplayWindow, Sealer, Suite, parse_header

KEY, IV = bytes(range(32)), bytes(range(12))
GOLDEN = "010000000700000000000000003667b27ca0c4a975c423bf944596454a2ac9d547b8"


def _pair(suite: Suite = Suite.AES_256_GCM, window: int = 1024) -> tuple[Sealer, Opener]:
    return Sealer(suite, KEY, IV, 7), Opener(suite, KEY, IV, 7, window)


@pytest.mark.parametrize("suite", list(Suite))
def test_a_sealed_message_opens_once_and_costs_29_bytes(suite: Suite) -> None:
    sealer, opener = _pair(suite)
    frame = sealer.seal(b"21.5", "t/1")
    assert len(frame) == 4 + OVERHEAD_BYTES == 4 + 29
    assert opener.open(frame, "t/1") == b"21.5"
    with pytest.raises(FrameError, match="replay"):
        opener.open(frame, "t/1")


def test_the_wire_format_does_not_change() -> None:
    """Golden frame: makers of devices in other languages build on these bytes."""
    frame = Sealer(Suite.AES_256_GCM, KEY, IV, 7).seal(b"qedge", "topic")
    assert frame.hex() == GOLDEN
    assert parse_header(frame).key_id == 7


@given(st.integers(0, 32 * 8 - 1))
def test_a_flipped_bit_anywhere_has_no_effect(bit: int) -> None:
    sealer, opener = _pair()
    frame = sealer.seal(b"abc", "t")
    index = bit % (len(frame) * 8)
    bad = bytearray(frame)
    bad[index // 8] ^= 1 << (index % 8)
    with pytest.raises(FrameError):
        opener.open(bytes(bad), "t")
    assert opener.open(frame, "t") == b"abc"


@given(st.binary(max_size=200))
def test_random_bytes_are_never_accepted(data: bytes) -> None:
    with pytest.raises(FrameError):
        _pair()[1].open(data, "t")


def test_topic_key_and_suite_are_bound() -> None:
    sealer, opener = _pair()
    frame = sealer.seal(b"abc", "t")
    for wrong in (
        Opener(Suite.CHACHA20_POLY1305, KEY, IV, 7),
        Opener(Suite.AES_256_GCM_CATEGORY_5, KEY, IV, 7),  # the same cipher
        Opener(Suite.AES_256_GCM, KEY[::-1], IV, 7),
    ):
        with pytest.raises(FrameError, match="open"):
            wrong.open(frame, "t")
    with pytest.raises(FrameError, match="open"):
        opener.open(frame, "u")
    with pytest.raises(FrameError, match="key"):
        Opener(Suite.AES_256_GCM, KEY, IV, 8).open(frame, "t")


@given(st.lists(st.integers(0, 300), max_size=200), st.integers(1, 64))
def test_the_window_agrees_with_a_plain_set(counters: list[int], size: int) -> None:
    window, seen, top = ReplayWindow(size), set[int](), -1
    for counter in counters:
        expected = counter not in seen and counter > top - size
        assert window.is_fresh(counter) is expected
        if expected:
            window.accept(counter)
            seen.add(counter)
            top = max(top, counter)


def test_a_huge_jump_costs_no_memory_and_bad_keys_are_refused() -> None:
    window = ReplayWindow(64)
    window.accept(MAX_COUNTER)
    assert not window.is_fresh(MAX_COUNTER)
    assert window.is_fresh(MAX_COUNTER - 1)
    for key, iv in ((KEY[1:], IV), (KEY, IV[1:])):
        with pytest.raises(ValueError, match="32-byte key"):
            Sealer(Suite.AES_256_GCM, key, iv, 7)
    with pytest.raises(ValueError, match="at least one"):
        ReplayWindow(0)
