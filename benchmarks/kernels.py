"""What the benchmarks of QKD kernels share: compiled code kept between runs, and CPU time of one thread."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from qedge.qkd.simd.cpu import prepare_numba, selection


def prepare() -> str:
    """Have numba keep its code in the temporary folder; return the path of this process. Before numba is imported."""
    prepare_numba(Path(tempfile.gettempdir()) / "qedge-benchmark-kernels")
    chosen = selection()
    return f"{chosen.path}, products of {chosen.product_bits} bits"


def cpu_s(call: Callable[[], object], samples: int) -> float:
    """Return the median CPU time of a call on this thread, in seconds; once to warm up."""
    call()
    times = []
    for _ in range(samples):
        started = time.thread_time()
        call()
        times.append(time.thread_time() - started)
    return statistics.median(times)
