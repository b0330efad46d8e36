"""Privacy amplification: every path gives what the definition says, at full size and for any length."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.qkd.amplification.spectrum import hash_by_spectrum
from qedge.qkd.amplification.tiling import SMALLEST, cover, strips
from qedge.qkd.amplification.toeplitz import (
    Words,
    hash_key,
    hash_key_reference,
    hash_key_short,
    seed_words,
    short_seed_words,
)
from qedge.qkd.simd import cpu

Shape = tuple[int, int]
"""Words of key, bits of output."""
SMALL: list[Shape] = [(1, 1), (1, 64), (3, 100), (17, 1000), (64, 2048), (130, 8320), (300, 7001)]
FULL: list[Shape] = [(1 << 14, 325_059), (1 << 14, 1 << 19), (1 << 16, 1_887_437)]
LARGE: list[Shape] = [(1 << 18, 5_200_937), (1 << 18, 1 << 23)]
CHILD = """
import hashlib, json, pathlib, sys
from qedge.qkd.simd import cpu
cpu.prepare_numba(pathlib.Path(sys.argv[1]))
import numpy as np
from qedge.qkd.amplification.toeplitz import hash_key, seed_words
digests = {}
for words, bits in json.loads(sys.argv[2]):
    chance = np.random.default_rng((words, bits))
    key, seed = (chance.integers(0, 1 << 64, size, dtype=np.uint64) for size in (words, seed_words(words, bits)))
    digests[str((words, bits))] = hashlib.sha256(hash_key(key, seed, bits).tobytes()).hexdigest()
chosen = cpu.selection()
print(json.dumps([chosen.path, chosen.product_bits, digests]))
"""


def inputs(words: int, output_bits: int) -> tuple[Words, Words]:
    """Return a key and a seed, always the same for a shape, in the child too."""
    chance = np.random.default_rng((words, output_bits))
    key, seed = (chance.integers(0, 1 << 64, size, dtype=np.uint64) for size in (words, seed_words(words, output_bits)))
    return key, seed


def digest(words: Words) -> str:
    return hashlib.sha256(words.tobytes()).hexdigest()


@functools.cache
def expected(shape: Shape) -> str:
    """Return the digest of the FFT's answer, which `none` gives too and which the definition is compared with below."""
    return digest(hash_key_reference(*inputs(*shape), shape[1]))


def integer(words: Words) -> int:
    return int.from_bytes(words.tobytes(), "little")


def by_product(key: Words, seed: Words, output_bits: int) -> int:
    """Multiply polynomials over GF(2) bit by bit in one large integer, and cut the output out of the product."""
    total, factor, shift = 0, integer(key), integer(seed)
    while factor:
        low = factor & -factor
        total ^= shift << (low.bit_length() - 1)
        factor ^= low
    return (total >> (64 * key.size)) & ((1 << output_bits) - 1)


@pytest.mark.parametrize("shape", SMALL)
def test_the_hash_is_a_slice_of_a_product_of_polynomials(shape: Shape) -> None:
    key, seed = inputs(*shape)
    wanted = by_product(key, seed, shape[1])
    assert integer(hash_key(key, seed, shape[1])) == wanted
    assert integer(hash_key_reference(key, seed, shape[1])) == wanted


@given(st.integers(1, 90), st.data())
def test_any_length_of_key_and_output_gives_the_same_on_both_ways(words: int, data: st.DataObject) -> None:
    bits = data.draw(st.integers(0, 64 * words))
    key, seed = inputs(words, bits)
    assert np.array_equal(hash_key(key, seed, bits), hash_key_reference(key, seed, bits))


@given(st.integers(1, 40), st.data())
def test_the_short_hash_is_the_first_words_plus_the_hash_of_the_others(words: int, data: st.DataObject) -> None:
    bits = data.draw(st.integers(0, 64 * words))
    chance = np.random.default_rng(words)
    key, seed = (chance.integers(0, 1 << 64, size, dtype=np.uint64) for size in (words, short_seed_words(words, bits)))
    kept = bits // 64
    wanted = integer(key[:kept]) ^ (by_product(key[kept:], seed, bits) if kept < words else 0)
    assert integer(hash_key_short(key, seed, bits)) == wanted


def test_the_short_hash_tells_apart_keys_that_differ_in_a_single_bit_anywhere() -> None:
    seed = np.random.default_rng(2).integers(0, 1 << 64, short_seed_words(4, 100), dtype=np.uint64)
    keys = [np.array([(1 << bit) >> 64 * word & (1 << 64) - 1 for word in range(4)], np.uint64) for bit in range(256)]
    assert len({hash_key_short(key, seed, 100).tobytes() for key in keys}) == 256


@pytest.mark.parametrize("shape", FULL)
def test_single_bits_at_full_size_are_what_the_definition_says(shape: Shape) -> None:
    key, seed = inputs(*shape)
    bits = shape[1]
    output, window = integer(hash_key(key, seed, bits)), integer(seed)
    backwards = integer(np.packbits(np.unpackbits(key.view(np.uint8), bitorder="little")[::-1], bitorder="little"))
    for bit in [0, 1, 63, 64, bits - 1, *np.random.default_rng(5).integers(0, bits, 20).tolist()]:
        terms = (window >> (bit + 1)) & backwards  # T_(n+i-j) x_j: j backwards is the index of T forwards
        assert terms.bit_count() & 1 == output >> bit & 1, bit


@pytest.mark.parametrize("shape", FULL)
def test_the_path_of_this_process_is_exact_at_full_size(shape: Shape) -> None:
    assert digest(hash_key(*inputs(*shape), shape[1])) == expected(shape)


@pytest.mark.long
@pytest.mark.parametrize("shape", LARGE)
def test_the_path_of_this_process_is_exact_at_2_to_the_24(shape: Shape) -> None:
    assert digest(hash_key(*inputs(*shape), shape[1])) == expected(shape)


HASWELL = (
    "+64bit,+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,+pclmul,+popcnt"
    ",+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave"
)
PATHS = {
    "avx512": ({"QEDGE_SIMD": "avx512"}, "avx512", 0),
    "avx512 without wide products": (
        {
            "NUMBA_CPU_NAME": "skylake-avx512",
            "NUMBA_CPU_FEATURES": f"{HASWELL},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl",
        },
        "avx512",
        128,
    ),
    "avx2 with wide products": (
        {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": f"{HASWELL},+vpclmulqdq"},
        "avx2",
        256,
    ),
    "avx2": ({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": HASWELL}, "avx2", 128),
    "none": ({"QEDGE_SIMD": "none"}, "none", 0),
    "a generic CPU": ({"NUMBA_CPU_NAME": "generic"}, "none", 0),
}


def in_child(name: str, shapes: list[Shape]) -> dict[str, str]:
    """Hash in a process on the named path; skip where this CPU cannot."""
    settings, path, bits = PATHS[name]
    plain = {each: value for each, value in os.environ.items() if not each.startswith(("NUMBA_", "QEDGE_SIMD"))}
    host = cpu.compiled_features(cpu.host_features(), {})
    wanted = cpu.compiled_features(cpu.host_features(), settings)
    best = cpu.choose(host).path
    if cpu.PATHS.index(path) > cpu.PATHS.index(best) or (bits > 128 and "vpclmulqdq" not in wanted):
        pytest.skip(f"this CPU can do {best} only")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(os.environ["NUMBA_CACHE_DIR"]).parent), json.dumps(shapes)],
        env=plain | settings | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    found_path, found_bits, digests = json.loads(done.stdout)
    assert (found_path, found_bits) == (path, bits or found_bits)
    return {str(each): digests[str(each)] for each in shapes}


@pytest.mark.parametrize(
    "name", ["avx512", pytest.param("avx2 with wide products", marks=pytest.mark.long), "avx2", "none"]
)
def test_every_path_is_exact_at_full_size(name: str) -> None:
    shapes = SMALL + (FULL[:1] if name == "none" else FULL)
    assert in_child(name, shapes) == {str(each): expected(each) for each in shapes}


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(PATHS))
def test_every_path_is_exact_at_2_to_the_24(name: str) -> None:
    shapes = SMALL + LARGE
    assert in_child(name, shapes) == {str(each): expected(each) for each in shapes}


@given(st.integers(1, 700), st.integers(1, 700))
def test_tiles_cover_every_place_of_a_matrix_once(rows: int, columns: int) -> None:
    tiles = cover(rows, columns)
    extent = [max(tile[axis] + tile[2] for tile in tiles) for axis in (0, 1)]
    covered = np.zeros(extent, np.uint8)
    for row, column, size in tiles:
        assert size >= SMALLEST
        assert size & (size - 1) == 0
        covered[row : row + size, column : column + size] += 1
    assert (covered[:rows, :columns] == 1).all()


def test_a_strip_beyond_the_matrix_is_taken_where_many_small_ones_cost_more() -> None:
    assert strips(4096) == (4096,)
    assert strips(4096 + 1024) == (4096, 1024)
    assert strips(4096 + 3000) == (8192,)


def test_wrong_shapes_are_refused() -> None:
    key = np.zeros(4, np.uint64)
    with pytest.raises(ValueError, match="cannot be hashed to 257"):
        hash_key(key, np.zeros(9, np.uint64), 257)
    with pytest.raises(ValueError, match="the seed has 5 words, not 6"):
        hash_key(key, np.zeros(5, np.uint64), 65)
    with pytest.raises(ValueError, match="arrays of 64-bit words"):
        hash_key(key.view(np.uint8)[:4], np.zeros(6, np.uint64), 65)
    with pytest.raises(ValueError, match="cannot be hashed to 257"):
        hash_key_short(key, np.zeros(9, np.uint64), 257)
    with pytest.raises(ValueError, match="the seed has 4 words, not 0"):
        hash_key_short(key, key, 256)
    assert hash_key(key, np.zeros(4, np.uint64), 0).size == 0


def test_arrays_that_cannot_be_written_are_taken_as_they_come_from_messages() -> None:
    key, seed = inputs(16, 500)
    read_only, shifted = np.frombuffer(key.tobytes(), np.uint64), np.frombuffer(b"?" + seed.tobytes(), np.uint64, -1, 1)
    assert np.array_equal(hash_key(read_only, shifted, 500), hash_key(key, seed, 500))


def test_an_inexact_transform_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(spectrum: npt.NDArray[np.complex128], cycle: int, overwrite_x: bool) -> npt.NDArray[np.float64]:
        return np.fft.irfft(spectrum, cycle) + 0.1

    monkeypatch.setattr("qedge.qkd.amplification.spectrum.scipy.fft.irfft", shifted)
    with pytest.raises(ArithmeticError, match="away from an integer"):
        hash_by_spectrum(*inputs(4, 128))
