"""How often a logical qubit is lost: shots of a memory experiment, sampled by stim and decoded."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from qedge.base.errors import QedgeError
from qedge.engine.qec.model import Memory, block_decoder
from qedge.engine.qec.rates import wilson_interval
from qedge.engine.qec.window import Pieces, Stream, memory_pieces

_CHUNK_BYTES: Final = 32 << 20
_MAX_CHUNK_SHOTS: Final = 16_384
_TIMED: Final = 2_000
"""Shots that are decoded one by one to see how long one takes."""


@dataclass(frozen=True, slots=True)
class Logical:
    """Errors in shots, and the microseconds that single decodings took."""

    shots: int
    errors: int
    times_us: tuple[float, ...]

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the error rate."""
        return wilson_interval(self.errors, self.shots)

    def time_us(self, share: float) -> float:
        """Return a quantile of the times."""
        times = sorted(self.times_us)
        return times[min(len(times) - 1, int(share * len(times)))] if times else 0.0


def run_block(memory: Memory, shots: int, seed: int, stopped: Callable[[], bool]) -> Logical:
    """Decode every shot as one block."""
    matcher = block_decoder(memory)
    sampler = memory.circuit().compile_detector_sampler(seed=seed)
    errors, times = 0, list[float]()
    for size in _chunks(memory, shots):
        _stop(stopped)
        detectors, flips = sampler.sample(size, separate_observables=True, bit_packed=True)
        if not times:
            plain = np.unpackbits(detectors[:_TIMED], axis=1, count=memory.num_detectors, bitorder="little")
            times = _timed(matcher, plain)
        found = matcher.decode_batch(detectors, bit_packed_shots=True, bit_packed_predictions=True)
        errors += int(np.count_nonzero(((found ^ flips) & 1).any(axis=1)))
    return Logical(shots, errors, tuple(times))


def _timed(matcher: object, rows: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> list[float]:
    decode = matcher.decode  # type: ignore[attr-defined] # untyped library
    times: list[float] = []
    for row in rows:
        began = time.perf_counter_ns()
        decode(row)
        times.append((time.perf_counter_ns() - began) / 1e3)
    return times


def run_stream(memory: Memory, window: int, commit: int, shots: int, seed: int, stopped: Callable[[], bool]) -> Logical:
    """Decode every shot as a stream of rounds."""
    pieces = memory_pieces(memory, window, commit)
    sampler = memory.circuit().compile_detector_sampler(seed=seed)
    cuts = _round_bounds(memory, pieces)
    errors, times = 0, list[float]()
    for size in _chunks(memory, shots):
        detectors, flips = sampler.sample(size, separate_observables=True)
        for row, flipped in zip(detectors.view(np.uint8), flips[:, 0].tolist(), strict=True):
            _stop(stopped)
            stream = Stream(pieces)
            for begin, end in itertools.pairwise(cuts[:-1]):
                began = time.perf_counter_ns()
                if stream.push(row[begin:end]) and len(times) < 50 * _TIMED:
                    times.append((time.perf_counter_ns() - began) / 1e3)
            frame = stream.close(row[cuts[-2] : cuts[-1]])
            errors += (frame & 1) != flipped
    return Logical(shots, errors, tuple(times))


def _round_bounds(memory: Memory, pieces: Pieces) -> list[int]:
    """Return where each round of the experiment begins in its row of detectors."""
    first, second = pieces.sizes(0, 1), pieces.sizes(1, 2)
    last = memory.num_detectors - first - (memory.rounds - 1) * second
    cuts = [0, *(first + number * second for number in range(memory.rounds))]
    return [*cuts, cuts[-1] + last]


def _chunks(memory: Memory, shots: int) -> list[int]:
    """Split shots so that what is sampled at once stays small."""
    most = max(1, min(_MAX_CHUNK_SHOTS, _CHUNK_BYTES // max(1, memory.num_detectors)))
    return [min(most, shots - begin) for begin in range(0, shots, most)]


def _stop(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise QedgeError("job.cancelled", "The job was cancelled.")
