"""Handshakes under way cost a bounded memory, whoever begins them."""

from __future__ import annotations

from typing import cast

from qedge.crypto.handshake import Handshake
from qedge.mesh.shaking import MAX_EARLY, MAX_EARLY_BYTES, Shake


def test_frames_that_came_before_the_keys_are_held_within_a_bound_and_the_newest_stay() -> None:
    shake = Shake("b", b"s" * 16, cast(Handshake, None), 0, is_client=True, next_flight=1)
    for number in range(2 * MAX_EARLY):
        shake.hold("t", bytes([number]) * 200_000)
    assert sum(len(frame) for _, frame in shake.early) <= MAX_EARLY_BYTES
    assert shake.early[-1][1][0] == 2 * MAX_EARLY - 1
    for _ in range(2 * MAX_EARLY):
        shake.hold("t", b"small")
    assert len(shake.early) == MAX_EARLY
