"""Sifting: codecs are exact, near the entropy and safe against hostile bytes; both ends keep the same."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numba import njit

from qedge.qkd.sifting import gaps, reference, selection, symbols
from qedge.qkd.sifting.model import MAX_COUNT, Bytes, Slots, packed
from qedge.qkd.sifting.reference import planes_of
from qedge.qkd.simd.bits import extract, extract_one_by_one

COUNT = 1 << 16


def entropy(shares: list[float]) -> float:
    return -sum(share * math.log2(share) for share in shares if share)


def slots_of(steps: list[int], first_slot: int) -> Slots:
    return (first_slot - 1 + np.cumsum(np.array(steps, np.int64))).astype(np.uint64)


def bits_of(values: Bytes) -> Bytes:
    return np.packbits(values, bitorder="little")


def biased(share: float, count: int, seed: int = 1) -> Bytes:
    return (np.random.default_rng(seed).random(count) < share).astype(np.uint8)


steps = st.lists(st.integers(1, 300) | st.integers(1, 1 << 44), max_size=150)
bit_lists = st.builds(
    biased, st.sampled_from([0, 0.003, 0.05, 0.3, 0.5, 0.97, 1]), st.integers(0, 700), st.integers(0, 99)
)


@given(steps, st.integers(0, 1 << 50))
@example([1 << 31, 1 << 31], 5)
def test_gaps_come_back_and_both_ways_write_the_same_bytes(each: list[int], first_slot: int) -> None:
    slots = slots_of(each, first_slot)
    data = gaps.encode_gaps(slots, first_slot)
    end = int(slots[-1]) + 1 if slots.size else first_slot
    assert np.array_equal(gaps.decode_gaps(data, first_slot, slots.size, end), slots)
    assert reference.encode_gaps(slots, first_slot) == data
    assert np.array_equal(reference.decode_gaps(data, first_slot, slots.size), slots)


@pytest.mark.parametrize("dead_slots", [0, 30])
@pytest.mark.parametrize("chance", [0.04, 0.01, 0.001])
def test_gaps_take_at_most_two_percent_more_than_their_entropy_dead_time_or_not(chance: float, dead_slots: int) -> None:
    slots = slots_of((np.random.default_rng(7).geometric(chance, COUNT) + dead_slots).tolist(), 12)
    bits = 8 * len(gaps.encode_gaps(slots, 12)) / COUNT
    assert bits < 1.02 * entropy([chance, 1 - chance]) / chance


@given(bit_lists)
def test_bits_come_back_and_both_ways_write_the_same_bytes(bits: Bytes) -> None:
    count, bits = bits.size, bits_of(bits)
    data = symbols.encode_bits(bits, count)
    assert len(data) <= count / 8 + 2
    assert np.array_equal(symbols.decode_bits(data, count), bits)
    assert reference.encode_bits(bits, count) == data
    assert np.array_equal(reference.decode_bits(data, count), bits)


@pytest.mark.parametrize("share", [0.5, 0.25, 0.15, 0.05, 0.03, 0.01])
def test_biased_bits_take_at_most_two_percent_more_than_their_entropy(share: float) -> None:
    bits = biased(share, COUNT)
    coded = symbols.encode_bits(bits_of(bits), COUNT)
    assert 8 * len(coded) < 1.02 * COUNT * entropy([bits.mean(), 1 - bits.mean()]) + 360


@given(st.integers(0, 600), st.lists(st.integers(0, 50), min_size=4, max_size=4), st.integers(0, 99))
def test_symbols_come_back_and_both_ways_write_the_same_bytes(count: int, weights: list[int], seed: int) -> None:
    share = np.array(weights if any(weights) else [1, 0, 0, 0]) / max(1, sum(weights))
    values = np.random.default_rng(seed).choice(4, count, p=share).astype(np.uint8)
    planes = planes_of(values)
    data = symbols.encode_symbols(planes, count)
    assert np.array_equal(symbols.decode_symbols(data, count), planes)
    assert reference.encode_symbols(planes, count) == data
    assert np.array_equal(reference.decode_symbols(data, count), planes)


@pytest.mark.parametrize("share", [[0.8, 0.15, 0.05, 0], [0.25, 0.25, 0.25, 0.25], [0.97, 0.02, 0.01, 0]])
def test_symbols_take_at_most_two_percent_more_than_their_entropy(share: list[float]) -> None:
    values = np.random.default_rng(3).choice(4, COUNT, p=share).astype(np.uint8)
    shares = (np.bincount(values) / COUNT).tolist()
    assert 8 * len(symbols.encode_symbols(planes_of(values), COUNT)) < 1.02 * COUNT * entropy(shares) + 400


def mutated(data: bytes, at: int, value: int, length: int) -> bytes:
    """Return bytes with one changed and the end cut or prolonged."""
    changed = bytearray(data)
    changed[at % len(changed)] ^= value
    return bytes(changed[: max(0, len(changed) + length)]) + b"\0" * max(0, length)


damage = {"at": st.integers(0, 400), "value": st.integers(0, 255), "length": st.integers(-9, 9)}


@given(at=damage["at"], value=damage["value"], length=damage["length"], seed=st.integers(0, 30))
def test_damaged_gaps_are_refused_or_stay_within_their_range(at: int, value: int, length: int, seed: int) -> None:
    slots = slots_of(np.random.default_rng(seed).geometric(0.02, 60).tolist(), 500)
    end = int(slots[-1]) + 1
    data = mutated(gaps.encode_gaps(slots, 500), at, value, length)
    try:
        found = gaps.decode_gaps(data, 500, 60, end)
    except ValueError:
        return
    assert found.size == 60
    assert np.all(np.diff(found.astype(np.int64)) > 0)
    assert 500 <= found[0] < found[-1] < end


@given(at=damage["at"], value=damage["value"], length=damage["length"], seed=st.integers(0, 30))
def test_damaged_bits_and_symbols_are_refused_or_stay_in_their_alphabet(
    at: int, value: int, length: int, seed: int
) -> None:
    bits = biased(0.1, 701, seed)
    for encode, decode, packed_bits in (
        (symbols.encode_bits, symbols.decode_bits, bits_of(bits)),
        (symbols.encode_symbols, symbols.decode_symbols, planes_of(bits)),
    ):
        data = mutated(encode(packed_bits, 701), at, value, length)
        try:
            found = decode(data, 701)
        except ValueError:
            continue
        assert found.shape == packed_bits.shape
        assert not np.any(found[..., -1] >> 5)


@given(st.binary(max_size=80), st.integers(0, 200))
@example(b"\x28" + b"\xff" * 70, 12)
@example(b"\0\xff\xff\xff\xff" + b"\xff" * 20, 160)
@example(b"\x28" + b"\0" * 79, 1)
@example(b"\1\0\0" + b"\xff" * 40, 100)
@example(b"\1\0\x80" + b"\0\0\0\x80\0\0\0\0" * 4, 100)
@example(b"\1\xff\xff\xff\xff\xff\xff" + b"\xff" * 40, 100)
def test_any_bytes_are_decoded_or_refused(data: bytes, count: int) -> None:
    for decode in (symbols.decode_bits, symbols.decode_symbols):
        with contextlib.suppress(ValueError):
            assert decode(data, count).shape[-1] == -(-count // 8)
    with contextlib.suppress(ValueError):
        found = gaps.decode_gaps(data, 5, count, (1 << 63) - 1)
        assert np.array_equal(gaps.decode_gaps(gaps.encode_gaps(found, 5), 5, count, (1 << 63) - 1), found)


def test_a_detection_beyond_the_end_is_refused() -> None:
    slots = np.array([10, 11, 40], np.uint64)
    data = gaps.encode_gaps(slots, 10)
    assert gaps.decode_gaps(data, 10, 3, 41).tolist() == [10, 11, 40]
    with pytest.raises(ValueError, match="at or after slot 40"):
        gaps.decode_gaps(data, 10, 3, 40)


def test_a_count_that_the_bytes_cannot_hold_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(ValueError, match="too few"):
        gaps.decode_gaps(b"\0" * 9, 0, MAX_COUNT, 1 << 40)
    for decode in (symbols.decode_bits, symbols.decode_symbols):
        with pytest.raises(ValueError, match="a message has at most"):
            decode(b"\0\0", MAX_COUNT + 1)
        with pytest.raises(ValueError, match="unknown form"):
            decode(b"\2\0", 1)
        with pytest.raises(ValueError, match="impossible length"):
            decode(b"\1\0\0\0", 1)
        with pytest.raises(ValueError, match="beyond the last"):
            decode(b"\0\xff", 1)


@pytest.mark.parametrize("values", [[5, 5], [7, 6], [3, 9]])
def test_slots_that_do_not_rise_are_not_encoded(values: list[int]) -> None:
    with pytest.raises(ValueError, match="rise"):
        gaps.encode_gaps(np.array(values, np.uint64), 4)


@given(st.integers(0, 500), st.integers(0, 99))
def test_both_ends_keep_the_same_detections_in_the_same_order(count: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    alice, bob = (bits_of(chance.random(count) < 0.2) for _ in range(2))
    bits, noise = (bits_of(chance.integers(0, 2, count, dtype=np.uint8)) for _ in range(2))
    levels = planes_of(chance.integers(0, 3, count, dtype=np.uint8))
    at_alice = selection.sift(alice, bob, bits, count, levels)
    at_bob = selection.sift(bob, alice, bits ^ noise, count)
    plain = reference.sift(alice, bob, bits, count, levels)
    for name in ("key", "num_key", "key_levels", "test", "num_test", "test_levels"):
        assert np.array_equal(getattr(at_alice, name), getattr(plain, name))
    assert (at_bob.num_key, at_bob.num_test) == (plain.num_key, plain.num_test)
    for one, other, intensities, number in (
        (at_alice.key, at_bob.key, at_alice.key_levels, at_alice.num_key),
        (at_alice.test, at_bob.test, at_alice.test_levels, at_alice.num_test),
    ):
        detections, errors = selection.count_errors(one, other, intensities, number)
        assert [each.tolist() for each in (detections, errors)] == [
            each.tolist() for each in reference.count_errors(one, other, intensities, number)
        ]


def test_arrays_of_different_blocks_are_refused() -> None:
    two, three = np.zeros(2, np.uint8), np.zeros(3, np.uint8)
    with pytest.raises(ValueError, match="one length"):
        selection.sift(two, two, three, 16)
    with pytest.raises(ValueError, match="one length"):
        selection.sift(two, two, two, 24)
    with pytest.raises(ValueError, match="one length"):
        selection.count_errors(two, two[:0], np.zeros((2, 2), np.uint8), 16)


def test_arrays_that_cannot_be_written_are_taken_as_they_come_from_messages() -> None:
    bits = np.frombuffer(bytes([0b10110]), np.uint8)
    levels = np.frombuffer(bytes([0b10110, 0]), np.uint8).reshape(2, 1)
    slots = np.frombuffer(b"?" + np.arange(3, 9, dtype=np.uint64).tobytes(), np.uint64, 6, 1)
    assert symbols.decode_bits(symbols.encode_bits(bits, 5), 5).tolist() == bits.tolist()
    assert symbols.decode_symbols(symbols.encode_symbols(levels, 5), 5).tolist() == levels.tolist()
    assert gaps.decode_gaps(gaps.encode_gaps(slots, 0), 0, 6, 9).tolist() == slots.tolist()
    sifted = selection.sift(bits, bits, bits, 5, levels)
    assert (sifted.num_key, sifted.num_test) == (2, 3)
    key = np.frombuffer(sifted.test.tobytes(), np.uint8)
    assert selection.count_errors(key, key, levels, 3)[0].tolist() == [1, 2, 0, 0]


def test_single_bits_are_extracted_alike_with_and_without_the_instruction() -> None:
    chance = np.random.default_rng(5)
    for _ in range(200):
        word, mask = (int(each) for each in chance.integers(0, 1 << 63, 2, dtype=np.uint64))
        picked = "".join(f"{word:064b}"[place] for place in range(64) if f"{mask:064b}"[place] == "1")
        assert _extract(word, mask) == extract_one_by_one(word, mask) == int(picked or "0", 2)


@njit
def _extract(word: int, mask: int) -> int:
    return extract(np.uint64(word), np.uint64(mask))  # type: ignore[no-any-return]


def test_packed_bits_of_another_length_or_with_bits_beyond_the_last_are_refused() -> None:
    assert packed(b"\xff\x03", 10).tolist() == [255, 3]
    assert packed(b"", 0).size == 0
    for data, count in ((b"\xff\x07", 10), (b"\xff", 10), (b"\xff\0\0", 10), (b"\0", 0)):
        with pytest.raises(ValueError, match="packed bits"):
            packed(data, count)
