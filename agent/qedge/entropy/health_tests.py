"""The continuous health tests of NIST SP 800-90B §4.4 on raw samples: repetition count and adaptive proportion.

Samples are single bits (eight to a byte, first in the most significant bit) or bytes. The loops run inside `str` and
`bytes` methods, so that testing 16 KiB costs well under a millisecond.
"""

from __future__ import annotations

import math
import re
from typing import Final

WINDOW_BITS: Final = 1024
WINDOW_BYTES: Final = 512
STARTUP_SAMPLES: Final = 1024
"""§4.3 asks for at least this many consecutive samples before the first output."""


def repetition_cutoff(min_entropy: float, alpha_exponent: int) -> int:
    """Return C of §4.4.1: 1 + ⌈−log2 α / H⌉ for `min_entropy` H in bits a sample and α = 2^−alpha_exponent."""
    return 1 + math.ceil(alpha_exponent / min_entropy)


def proportion_cutoff(min_entropy: float, alpha_exponent: int, window: int) -> int:
    """Return C of §4.4.2: 1 + critbinom(W, 2^−H, 1 − α), from the upper tail so that no digits are lost."""
    p = 2.0**-min_entropy
    log_p, log_q = math.log(p), math.log1p(-p)
    alpha = 2.0**-alpha_exponent
    tail = 0.0
    for k in range(window, -1, -1):
        log_choose = math.lgamma(window + 1) - math.lgamma(k + 1) - math.lgamma(window - k + 1)
        tail += math.exp(log_choose + k * log_p + (window - k) * log_q)
        if tail > alpha:
            return 1 + k  # P(X > k) was still within α, P(X ≥ k) is not
    return 1


class HealthTests:
    """Both tests over a stream of raw bytes; keeps what a run or a window needs across calls."""

    def __init__(self, bits_per_sample: int, min_entropy: float, alpha_exponent: int) -> None:
        if bits_per_sample not in (1, 8) or not 0 < min_entropy <= bits_per_sample:
            raise ValueError("samples have 1 or 8 bits and at most as much min-entropy")
        self._bits = bits_per_sample
        self._window = WINDOW_BITS if bits_per_sample == 1 else WINDOW_BYTES
        self.repetition = repetition_cutoff(min_entropy, alpha_exponent)
        self.proportion = proportion_cutoff(min_entropy, alpha_exponent, self._window)
        self._bit_runs = ("0" * self.repetition, "1" * self.repetition)
        self._byte_run = re.compile(f"(.)\\1{{{self.repetition - 1},}}", re.DOTALL)
        self._tail = ""
        self._open = ""

    def check(self, data: bytes) -> str:
        """Return `repetition` or `proportion` where a test alarms over these samples, else nothing."""
        samples = _bit_text(data) if self._bits == 1 else data.decode("latin-1")
        alarm = "repetition" if self._repeats(self._tail + samples) else ""
        self._tail = (self._tail + samples)[-(self.repetition - 1) :]
        stream = self._open + samples
        end = len(stream) - len(stream) % self._window
        for start in range(0, end, self._window):
            window = stream[start : start + self._window]
            if window.count(window[0]) >= self.proportion:
                alarm = alarm or "proportion"
        self._open = stream[end:]
        return alarm

    def _repeats(self, samples: str) -> bool:
        if self._bits == 1:
            return any(run in samples for run in self._bit_runs)
        return self._byte_run.search(samples) is not None


def is_stuck(data: bytes) -> bool:
    """Say whether all samples are the same: a total failure, whatever the cut-offs."""
    return len(data) >= 16 and data.count(data[:1]) == len(data)


def _bit_text(data: bytes) -> str:
    return bin(int.from_bytes(b"\x01" + data, "big"))[3:]
