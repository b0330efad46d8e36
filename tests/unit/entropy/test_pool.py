"""The pool: never weaker than the operating system, never the same bytes twice, honest about what took part."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.entropy.conditioning import OUTPUT_BYTES, condition, input_bytes
from qedge.entropy.drbg import MAX_REQUEST_BYTES, HmacDrbg
from qedge.entropy.pool import RandomPool


def seeded(seed: int) -> Callable[[int], bytes]:
    """An operating system whose randomness can be repeated."""
    return random.Random(seed).randbytes


def test_conditioning_takes_64_bits_more_entropy_than_it_gives() -> None:
    assert input_bytes(1, 0.5625) == 128
    assert input_bytes(1, 1.0) == 72
    assert input_bytes(8, 8.0) == 72
    assert input_bytes(8, 1.0) == 576
    blocks = list(condition(bytes(300), 128))
    assert blocks == [hashlib.sha512(bytes(128)).digest()] * 2


def test_the_drbg_repeats_itself_for_one_seed_and_forgets_what_it_gave() -> None:
    first, second = (HmacDrbg(b"e" * 64, b"n", b"p") for _ in range(2))
    assert first.generate(100) == second.generate(100)
    assert first.generate(100) != second.generate(100, b"other")
    first.reseed(b"new")
    assert first.generate(64) != second.generate(64)
    assert len({first.generate(64) for _ in range(100)}) == 100
    with pytest.raises(ValueError, match="at most"):
        first.generate(MAX_REQUEST_BYTES + 1)


def test_a_source_of_zeros_cannot_weaken_the_pool() -> None:
    plain, mixed = RandomPool(seeded(1), b"p", 4096), RandomPool(seeded(1), b"p", 4096)
    mixed.add(bytes(OUTPUT_BYTES))
    expected, quantum = plain.draw(OUTPUT_BYTES)
    got, got_quantum = mixed.draw(OUTPUT_BYTES)
    assert (quantum, got_quantum) == (False, True)
    assert got == expected, "XOR with zeros must leave the operating system's strength"


def test_a_known_operating_system_cannot_weaken_the_pool() -> None:
    block = os.urandom(OUTPUT_BYTES)
    known, pool = RandomPool(seeded(1), b"p", 4096), RandomPool(seeded(1), b"p", 4096)
    pool.add(block)
    mask, _ = known.draw(OUTPUT_BYTES)
    data, _ = pool.draw(OUTPUT_BYTES)
    assert bytes(a ^ b for a, b in zip(data, mask, strict=True)) == block


@given(st.lists(st.integers(0, 300), max_size=30), st.integers(0, 20))
def test_quantum_bytes_are_counted_used_once_and_never_claimed_beyond_what_there_was(
    draws: list[int], blocks: int
) -> None:
    pool = RandomPool(os.urandom, b"", 64 * 100)
    for _ in range(blocks):
        pool.add(os.urandom(OUTPUT_BYTES))
    left = blocks * OUTPUT_BYTES
    for number in draws:
        data, quantum = pool.draw(number)
        assert len(data) == number
        assert quantum is (0 < number <= left)
        left -= -(-number // OUTPUT_BYTES) * OUTPUT_BYTES if quantum else 0
        assert pool.quantum_bytes == left


def test_a_full_pool_drops_nothing_and_a_purged_or_forked_one_has_nothing() -> None:
    pool = RandomPool(os.urandom, b"", 2 * OUTPUT_BYTES)
    for _ in range(5):
        pool.add(os.urandom(OUTPUT_BYTES))
    assert pool.is_full
    assert pool.quantum_bytes == 2 * OUTPUT_BYTES
    pool.purge()
    assert pool.draw(1)[1] is False
    pool.add(os.urandom(OUTPUT_BYTES))
    pool.restart()
    assert pool.quantum_bytes == 0


def test_a_child_of_a_fork_never_gives_the_bytes_of_its_parent() -> None:
    parent, child = RandomPool(seeded(3), b"", 64), RandomPool(seeded(3), b"", 64)
    assert parent.draw(32) == child.draw(32)
    child.restart()
    assert parent.draw(32) != child.draw(32)


def test_large_draws_are_whole_and_all_different() -> None:
    pool = RandomPool(os.urandom, b"", 64)
    data, _ = pool.draw(3 * MAX_REQUEST_BYTES + 5)
    assert len({data[i : i + 64] for i in range(0, len(data), 64)}) == -(-len(data) // 64)
