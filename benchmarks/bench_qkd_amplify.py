"""Privacy amplification: megabits of key hashed per second on one core, by CPU time of the thread, medians.

For blocks of 2^20, 2^22 and 2^24 bits; each figure is the slowest of several output lengths, friendly and unfriendly to
the tiles. The baseline is the same hash by scipy's FFT in float64, in the same run; both answers are compared.
`qkd.pa_short_…` is the hash with the shorter seed, at the ratio that costs most.
`qkd.pa_compile_s` and `qkd.pa_load_s` are CPU seconds until the first hash of a new process, all imports included, with
an empty and with a filled cache of compiled kernels.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import kernels
from benchmarks.report import Figure

SIZES = ((20, 150, 15), (22, 80, 7), (24, 30, 3))
"""Binary logarithm of the bits of key, the bound in Mbit/s, samples."""
RATIOS = (0.1, 0.31, 1 / 3, 0.45, 0.5, 0.56)
FIRST_HASH = """
import pathlib, sys, time
from qedge.qkd.simd.cpu import prepare_numba
prepare_numba(pathlib.Path(sys.argv[1]))
from qedge.qkd.amplification.toeplitz import warm
warm()
print(time.process_time())
"""


def size_figure(logarithm: int, bound: float, samples: int) -> Figure:
    """Measure one block size."""
    import numpy as np

    from qedge.qkd.amplification.toeplitz import hash_key, hash_key_reference, seed_words

    bits = 1 << logarithm
    chance = np.random.default_rng(logarithm)
    key = chance.integers(0, 1 << 64, bits // 64, dtype=np.uint64)
    slowest, baseline = float("inf"), 0.0
    for output_bits in [int(bits * ratio) for ratio in RATIOS]:
        seed = chance.integers(0, 1 << 64, seed_words(key.size, output_bits), dtype=np.uint64)
        seconds = kernels.cpu_s(lambda seed=seed, m=output_bits: hash_key(key, seed, m), samples)  # type: ignore[misc] # defaults bind the loop's values
        slowest = min(slowest, bits / seconds / 1e6)
        if output_bits == bits // 2:
            assert np.array_equal(hash_key(key, seed, output_bits), hash_key_reference(key, seed, output_bits))
            seconds = kernels.cpu_s(lambda seed=seed, m=output_bits: hash_key_reference(key, seed, m), 1)  # type: ignore[misc] # as above
            baseline = bits / seconds / 1e6
    return Figure(f"qkd.pa_2e{logarithm}_mbit_s", slowest, "Mbit/s", samples, bound, baseline, at_least=True)


def short_figure(logarithm: int, samples: int) -> Figure:
    """Measure the short hash at the output length that costs most, one half."""
    import numpy as np

    from qedge.qkd.amplification.toeplitz import hash_key_short, short_seed_words

    words = 1 << (logarithm - 6)
    chance = np.random.default_rng(logarithm)
    key, seed = (
        chance.integers(0, 1 << 64, size, dtype=np.uint64) for size in (words, short_seed_words(words, 32 * words))
    )
    seconds = kernels.cpu_s(lambda: hash_key_short(key, seed, 32 * words), samples)
    return Figure(f"qkd.pa_short_2e{logarithm}_mbit_s", (1 << logarithm) / seconds / 1e6, "Mbit/s", samples)


def first_hash_s(cache: Path) -> float:
    """Return the CPU seconds of a new process until its first hash."""
    done = subprocess.run([sys.executable, "-c", FIRST_HASH, str(cache)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def run() -> list[Figure]:
    """Measure all sizes, and the two ways to start."""
    path = kernels.prepare()
    print(f"# {path}", file=sys.stderr)
    figures = [size_figure(*size) for size in SIZES] + [short_figure(size, samples) for size, _, samples in SIZES]
    with tempfile.TemporaryDirectory() as cache:
        compiled, loaded = first_hash_s(Path(cache)), first_hash_s(Path(cache))
    return [*figures, Figure("qkd.pa_compile_s", compiled, "s", 1), Figure("qkd.pa_load_s", loaded, "s", 1)]
