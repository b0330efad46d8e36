"""Reconciliation: leak, speed and failures on frames never seen by the search for codes, in one pinned core.

At each error rate (1, 2, 3 and 5 %) frames of 131,072 random bits with independent errors are reconciled as two ends would:
syndrome, decoding, further steps while it fails, then a comparison of tags of 64 bits. `qkd.f_*` is all that was sent of
syndromes and steps, of failed frames too, over n·h(Q); tags are not in it (0.0005·n each). `qkd.decode_mbit_s_*` is by
CPU time of this thread, all decodings of a frame together, median of `CHUNKS` parts; `…_min` is the slowest of the four rates.
`qkd.frame_failure` counts frames that were given up or whose tags differed, at all four rates together (`…_worst`: at the
worst of them); `qkd.undetected` those whose tags agreed and whose bits did not.

Baselines of `qkd.f_*` and, in CPU time, of `qkd.decode_mbit_s_*`: Cascade of the package `qkd` with frames of 10,000 bits, whose
messages go both ways. `qkd.ldpc_mbit_s_2`: the min-sum decoder of the package `ldpc` on our code for 2 %, where it is
installed. `qkd.reconcile_compile_s` and `qkd.reconcile_load_s` are CPU seconds until a new process has decoded with
both decoders, all imports included, with an empty and with a filled cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import kernels
from benchmarks.report import Figure

if TYPE_CHECKING:
    import numpy as np

    from qedge.qkd.reconciliation.model import Code
    from qedge.qkd.reconciliation.reconciler import Reconciler

POINTS = (("1", 0.01, 1.15), ("2", 0.02, 1.12), ("3", 0.03, 1.12), ("5", 0.05, 1.12))
"""Name, error rate, bound of the leak."""
FRAMES = int(os.environ.get("QEDGE_BENCH_FRAMES", "2520"))
CHUNKS = 9
FIRST_DECODING = """
import pathlib, sys, time
from qedge.qkd.simd.cpu import prepare_numba
prepare_numba(pathlib.Path(sys.argv[1]))
from qedge.qkd.reconciliation.reconciler import warm
warm()
print(time.process_time())
"""


@dataclass
class Tally:
    """What happened at one error rate."""

    leaked: int = 0
    sweeps: int = 0
    wide: int = 0
    steps: int = 0
    stepped: int = 0
    failed: int = 0
    undetected: int = 0
    seconds: list[float] = field(default_factory=list)


def entropy(rate: float) -> float:
    """Return the binary entropy."""
    return -(rate * math.log2(rate) + (1 - rate) * math.log2(1 - rate))


def tag(frame: bytes, key: bytes) -> bytes:
    """Return a tag of 64 bits, as the verification of distillation has one."""
    return hashlib.blake2b(frame, digest_size=8, key=key).digest()


def one_frame(reconciler: Reconciler, code: Code, rate: float, chance: np.random.Generator, tally: Tally) -> float:
    """Reconcile one frame; return the CPU seconds of decoding."""
    import numpy as np

    alice = np.frombuffer(chance.bytes(code.frame_bits // 8), np.uint8)
    bob = alice ^ np.packbits(chance.random(code.frame_bits) < rate, bitorder="little")
    difference = reconciler.syndrome(code, alice) ^ reconciler.syndrome(code, bob)
    tally.leaked += code.syndrome_bits
    extra: list[np.typing.NDArray[np.uint8]] = []
    seconds = 0.0
    while True:
        began = time.thread_time()
        found = reconciler.decode(code, difference, rate, extra)
        seconds += time.thread_time() - began
        tally.sweeps += found.iterations
        tally.wide += found.wide
        if found.error is not None or len(extra) == code.steps:
            break
        step = len(extra) + 1
        extra.append(reconciler.extra_syndrome(code, alice, step) ^ reconciler.extra_syndrome(code, bob, step))
        tally.leaked += code.step_bits
    tally.steps += len(extra)
    tally.stepped += bool(extra)
    if found.error is None:
        tally.failed += 1
        return seconds
    key, corrected = chance.bytes(16), (bob ^ found.error).tobytes()
    if tag(corrected, key) != tag(alice.tobytes(), key):
        tally.failed += 1
    elif corrected != alice.tobytes():
        tally.undetected += 1
    return seconds


def measure(rate: float, frames: int) -> tuple[Code, Tally]:
    """Reconcile fresh frames at one error rate."""
    import numpy as np

    from qedge.qkd.reconciliation.codes import choose_code
    from qedge.qkd.reconciliation.reconciler import Reconciler

    code = choose_code(rate)
    assert code is not None
    reconciler, tally = Reconciler(), Tally()
    chance = np.random.default_rng([2026, round(rate * 1e6)])
    one_frame(reconciler, code, rate, np.random.default_rng(0), Tally())  # builds the code, loads kernels
    for _ in range(CHUNKS):
        tally.seconds.append(
            sum(one_frame(reconciler, code, rate, chance, tally) for _ in range(frames // CHUNKS)) / (frames // CHUNKS)
        )
    return code, tally


def cascade(rate: float) -> tuple[float, float]:
    """Return leak over n·h(Q) and Mbit/s of the package `qkd`, frames of 10,000 bits, its near-optimal blocks."""
    from qkd import _core

    frame, frames = 10_000, 60
    exponent = math.log2(1 / rate) - 0.5
    sizes = [2 ** math.ceil(exponent), 2 ** math.ceil((exponent + 12) / 2), 4096, *[frame // 2] * 11]
    began = time.process_time()
    parities, _left = _core.cascade_run(rate, frame, sizes, True, 1, frames)
    seconds = time.process_time() - began
    return parities / (frame * entropy(rate)), frame * frames / seconds / 1e6


def foreign_decoder(rate: float) -> list[Figure]:
    """Measure the package `ldpc` on one of our codes."""
    if importlib.util.find_spec("ldpc") is None:
        print("package ldpc is not installed: no figure qkd.ldpc_mbit_s_2", file=sys.stderr)
        return []
    import numpy as np
    import scipy.sparse
    from ldpc import BpDecoder

    from qedge.qkd.reconciliation.codes import choose_code

    code = choose_code(rate)
    assert code is not None
    made, size = code.circulants, code.lifting
    lanes = np.arange(size)
    rows = np.repeat(np.arange(code.base_rows), np.diff(made.starts))
    checks = (rows[:, None] * size + lanes).reshape(-1)
    bits = (made.columns[:, None] * size + (lanes + made.shifts[:, None]) % size).reshape(-1)
    matrix = scipy.sparse.csr_matrix((np.ones(len(bits), np.uint8), (checks, bits)))
    decoder = BpDecoder(matrix, error_rate=rate, max_iter=40, bp_method="minimum_sum", ms_scaling_factor=0.75)
    error = (np.random.default_rng(1).random(code.frame_bits) < rate * 0.8).astype(np.uint8)
    began = time.thread_time()
    decoder.decode((matrix @ error % 2).astype(np.uint8))
    seconds = time.thread_time() - began
    return [Figure("qkd.ldpc_mbit_s_2", code.frame_bits / seconds / 1e6, "Mbit/s", 1)]


def start_figures() -> list[Figure]:
    """Measure how long a new process takes until it has decoded."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", FIRST_DECODING, folder]
        times = [float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(4)]
    return [
        Figure("qkd.reconcile_compile_s", times[0], "s", 1),
        Figure("qkd.reconcile_load_s", statistics.median(times[1:]), "s", 3),
    ]


def run() -> list[Figure]:
    """Measure all of it."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        print(f"path {kernels.prepare()}", file=sys.stderr)
        return [*point_figures(), *foreign_decoder(0.02), *start_figures()]
    finally:
        os.sched_setaffinity(0, allowed)


def point_figures() -> list[Figure]:
    """Measure all error rates."""
    figures: list[Figure] = []
    speeds, worst, failed, undetected, total = [], 0.0, 0, 0, 0
    for name, rate, bound in POINTS:
        code, tally = measure(rate, FRAMES)
        frames = FRAMES // CHUNKS * CHUNKS
        leak, fast = cascade(rate)
        speed = code.frame_bits / statistics.median(tally.seconds) / 1e6
        figures += [
            Figure(f"qkd.f_{name}", tally.leaked / (frames * code.frame_bits * entropy(rate)), "", frames, bound, leak),
            Figure(f"qkd.decode_mbit_s_{name}", speed, "Mbit/s", CHUNKS, None, fast),
            Figure(f"qkd.base_rows_{name}", code.base_rows / code.base_columns, "", frames),
            Figure(f"qkd.iterations_{name}", tally.sweeps / frames, "", frames),
            Figure(f"qkd.extra_steps_{name}", tally.steps / frames, "", frames),
            Figure(f"qkd.frames_with_steps_{name}", tally.stepped / frames, "", frames),
            Figure(f"qkd.wide_retries_{name}", tally.wide / frames, "", frames),
            Figure(f"qkd.failures_{name}", tally.failed, "", frames),
        ]
        speeds.append(speed)
        worst = max(worst, tally.failed / frames)
        failed, undetected, total = failed + tally.failed, undetected + tally.undetected, total + frames
    return [
        *figures,
        Figure("qkd.decode_mbit_s_min", min(speeds), "Mbit/s", len(speeds), 50, at_least=True),
        Figure("qkd.frame_failure", failed / total, "", total, 1e-3),
        Figure("qkd.frame_failure_worst", worst, "", total // len(POINTS)),
        Figure("qkd.undetected", undetected, "", total, 0),
    ]
