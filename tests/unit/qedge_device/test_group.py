"""The members' half of group keys, and what commands carry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge_device import commands
from qedge_device.commands import CommandStatus
from qedge_device.frame import FrameError, Sealer
from qedge_device.group import (
    GROUP_SUITE,
    MAX_STEPS,
    MAX_WAITING,
    GroupError,
    GroupKey,
    GroupOpener,
    GroupReader,
    epoch_keys,
    next_secret,
    pack_group_key,
    unpack_group_key,
)

BASE = "qedge/v1/fleet/box/seg/plant"
TOPIC = f"{BASE}/level"
SECRET = bytes(range(32))
VECTORS = Path(__file__).parent / "group_vectors.json"
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,36}", fullmatch=True)


def sealer(epoch: int, first: int = 5, secret: bytes = SECRET) -> Sealer:
    for _ in range(epoch - first):
        secret = next_secret(secret, TOPIC)
    key, iv = epoch_keys(secret, TOPIC, epoch)
    return Sealer(GROUP_SUITE, key, iv, epoch)


def opener(first: int = 5, secret: bytes = SECRET) -> GroupOpener:
    made = GroupOpener(TOPIC)
    made.take(first, secret)
    return made


def reason(opening: GroupOpener, frame: bytes) -> str:
    with pytest.raises(GroupError) as refused:
        opening.open(frame)
    return refused.value.reason


def test_vectors_for_makers_in_other_languages_hold() -> None:
    for case in json.loads(VECTORS.read_text()):
        secret, topic = bytes.fromhex(case["secret"]), case["topic"]
        assert next_secret(secret, topic).hex() == case["next_secret"]
        key, iv = epoch_keys(secret, topic, case["epoch"])
        assert (key.hex(), iv.hex()) == (case["key"], case["iv"])
        reading = GroupOpener(topic)
        reading.take(case["epoch"], secret)
        assert reading.open(bytes.fromhex(case["frame"])) == bytes.fromhex(case["payload"])
        key_message = unpack_group_key(bytes.fromhex(case["key_message"]))
        assert key_message.epoch == case["epoch"]
        assert key_message.secrets == {topic.rpartition("/")[2]: secret}


def test_a_member_follows_epochs_and_takes_late_frames_of_those_just_before() -> None:
    reading = opener()
    early, late = sealer(5), sealer(8)
    first, second = early.seal(b"1", TOPIC), early.seal(b"2", TOPIC)
    assert reading.open(first) == b"1"
    assert reading.open(late.seal(b"3", TOPIC)) == b"3"
    assert reading.open(second) == b"2"
    assert reading.open(sealer(7).seal(b"x", TOPIC)) == b"x"
    assert reason(reading, second) == "replay"


def test_frames_of_before_joining_and_of_epochs_that_are_over_are_refused_clearly() -> None:
    reading = opener(first=9)
    assert reason(reading, sealer(5).seal(b"x", TOPIC)) == "old"
    reading.open(sealer(30, 9).seal(b"x", TOPIC))
    assert reason(reading, sealer(20, 9).seal(b"x", TOPIC)) == "old"


def test_a_frame_of_a_generation_that_has_not_come_is_ahead_and_opens_later() -> None:
    reading, other = GroupReader(BASE), b"o" * 32
    reading.take(GroupKey("plant", 5, {"level": SECRET}))
    frame = sealer(7, 7, other).seal(b"later", TOPIC)
    with pytest.raises(GroupError) as ahead:
        reading.open("level", frame)
    assert ahead.value.reason == "ahead"
    assert reading.take(GroupKey("plant", 7, {"level": other})) == [("level", b"later")]
    assert reading.take(GroupKey("plant", 7, {"level": other})) == []


def test_a_key_of_an_earlier_epoch_that_comes_late_takes_no_channel_away() -> None:
    reading, next_one = GroupReader(BASE), b"n" * 32
    reading.take(GroupKey("plant", 9, {"level": SECRET, "flow": SECRET}))
    with pytest.raises(GroupError):
        reading.open("level", sealer(10, 10, next_one).seal(b"waits", TOPIC))
    assert reading.take(GroupKey("plant", 8, {"flow": b"o" * 32})) == []
    assert reading.take(GroupKey("plant", 10, {"level": next_one, "flow": next_one})) == [("level", b"waits")]


def test_a_forged_epoch_costs_little_and_changes_nothing() -> None:
    reading = opener()
    forged = sealer(5 + MAX_STEPS - 1, secret=b"f" * 32).seal(b"x", TOPIC)
    assert reason(reading, forged) == "ahead"
    assert reason(reading, sealer(5 + MAX_STEPS, 5 + MAX_STEPS, b"f" * 32).seal(b"x", TOPIC)) == "ahead"
    assert reading.open(sealer(5).seal(b"good", TOPIC)) == b"good"


def test_the_same_key_again_does_not_open_the_window_for_repeats() -> None:
    reading = opener()
    frame = sealer(7).seal(b"x", TOPIC)
    reading.open(frame)
    secret = next_secret(next_secret(SECRET, TOPIC), TOPIC)
    reading.take(7, secret)
    assert reason(reading, frame) == "replay"


def test_a_frame_is_bound_to_its_channel_and_a_reader_to_its_channels() -> None:
    reading = GroupReader(BASE)
    frame = sealer(5).seal(b"x", TOPIC)
    with pytest.raises(GroupError) as nothing:
        reading.open("level", frame)
    assert nothing.value.reason == "ahead"
    reading.take(GroupKey("plant", 5, {"level": SECRET, "flow": SECRET}))
    with pytest.raises(GroupError) as moved:
        reading.open("flow", sealer(5).seal(b"x", TOPIC))
    assert moved.value.reason == "open"
    with pytest.raises(GroupError) as unknown:
        reading.open("other", frame)
    assert unknown.value.reason == "channel"
    assert reading.take(GroupKey("plant", 9, {})) == []
    with pytest.raises(GroupError):
        reading.open("level", sealer(5).seal(b"x", TOPIC))


def test_what_waits_for_a_key_is_bounded() -> None:
    reading = GroupReader(BASE)
    made = sealer(5)
    for number in range(MAX_WAITING + 10):
        with pytest.raises(GroupError):
            reading.open("level", made.seal(number.to_bytes(2, "big"), TOPIC))
    opened = reading.take(GroupKey("plant", 5, {"level": SECRET}))
    assert [int.from_bytes(each, "big") for _, each in opened] == list(range(10, MAX_WAITING + 10))


@given(NAMES, st.integers(0, 2**32 - 1), st.dictionaries(NAMES, st.binary(min_size=32, max_size=32), max_size=4))
def test_a_key_message_is_read_as_it_was_written(segment: str, epoch: int, secrets: dict[str, bytes]) -> None:
    key = GroupKey(segment, epoch, secrets)
    assert unpack_group_key(pack_group_key(key)) == key
    assert not any(secret.hex() in repr(key) for secret in secrets.values())


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (unpack_group_key, commands.unpack_command, commands.unpack_done, commands.unpack_key_request):
        try:
            read(data)
        except ValueError:  # UnicodeDecodeError is one
            continue
    for read_frame in (opener().open, lambda frame: GroupReader(BASE).open("level", frame)):
        with pytest.raises((GroupError, FrameError)):
            read_frame(data)


def test_commands_and_answers_are_read_as_they_were_written() -> None:
    request = bytes(range(8))
    assert commands.unpack_command(commands.pack_command(request, b"90")) == (request, b"90")
    packed = commands.pack_done(request, CommandStatus.FAILED, "ü" * 300)
    assert commands.unpack_done(packed)[:2] == (request, CommandStatus.FAILED)
    assert len(packed) == 8 + 1 + 200
    assert commands.unpack_key_request(commands.pack_key_request("plant", ("a", "b"))) == ("plant", ("a", "b"))
    assert commands.unpack_key_request(commands.pack_key_request()) == ("", ())
    for bad in (b"", b"1234567", bytes(8)):
        with pytest.raises(ValueError, match=r"\w"):
            commands.unpack_done(bad)
    with pytest.raises(ValueError, match="8 bytes"):
        commands.pack_command(b"short", b"")
