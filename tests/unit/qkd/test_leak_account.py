"""What a block has leaked, to the bit, and that whatever engines say fits into one sealed message."""

from __future__ import annotations

import msgspec

from qedge.mesh.carrier import _PART_BYTES as PART_BYTES
from qedge.qkd.distillation.accounts import CHECK_BITS, LeakAccount
from qedge.qkd.distillation.model import FRAME_BITS
from qedge.wire.qkd import MAX_DATA_BYTES, Detections, LinkFrame, LinkFrames
from qedge.wire.session import Call


def test_syndromes_rows_checks_and_what_bob_says_are_counted() -> None:
    account = LeakAccount(4, checks=1, lists=2, numbers=3)
    for frame in range(4):
        account.disclose(frame, 1000)
    account.disclose(2, 50)
    assert account.total == 4 * 1000 + 50 + CHECK_BITS + 2 * 4 + 3 * 20


def test_a_frame_that_is_given_up_counts_with_its_length_and_nothing_else() -> None:
    account = LeakAccount(2, checks=1)
    account.disclose(0, 1000)
    account.disclose(1, 2000)
    account.drop(1)
    account.frame_checks = True
    assert account.kept == (0,)
    assert account.total == 1000 + FRAME_BITS + 2 * CHECK_BITS


def test_the_largest_message_of_an_engine_goes_over_mqtt_in_one_piece() -> None:
    slots, bases = bytes(MAX_DATA_BYTES - 1024 - 500), bytes(500)
    said = msgspec.msgpack.encode(Detections(2**62, 2**62, 1, slots, bases))
    frame = msgspec.msgpack.encode(LinkFrame(2**40, 2**40, 2**40, said))
    frames = msgspec.msgpack.encode(LinkFrames("l" * 64, bytes(16), (frame,)))
    assert len(msgspec.msgpack.encode(Call(2**40, "qkd-link-frames/1", 10.0, frames))) <= PART_BYTES
