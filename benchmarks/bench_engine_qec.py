"""Error correction: how long decoding takes, and whether a stream decodes as well as a block.

Everything runs in this process on surface codes with the same strength of noise on gates, idling, resets and
measurements. Times are those of the decoder alone, data transport not included. `qec.decode_d5_*`: single blocks of 5
rounds at 0.1 %. `qec.stream_d*_p99_us`: one window of 2d rounds, d of them committed, at 0.3 %; every d rounds one
such window is due. `qec.stream_growth`: median time of the last tenth of the windows of 100,000 rounds over that of
the first tenth of a second stream, which runs beside it in turn, since the machine itself is not as fast at the end.
`qec.window_vs_block_sigma`: difference of the logical errors in the same 20,000 shots, in standard errors of a
difference. Baseline of the block times: the same decoder fed by the batch. `qec.ler_*`: logical error rates per shot
of d rounds.

`qec.service_d5_*`: from pushing the last round of a window of distance 5 over the unix socket of a daemon to having its
commit, one round sent at a time at a pace of `PACE_S`, as a control system does that cannot look ahead; client, daemon
and worker are three processes of this machine. Baseline: the same windows decoded in this process, in the same run.
"""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.node import Node
from benchmarks.report import Figure, percentile, quietest
from qedge.client.node import NodeClient
from qedge.engine.qec.experiment import run_block, run_stream
from qedge.engine.qec.model import Memory, block_decoder
from qedge.engine.qec.window import Pieces, Stream, memory_pieces
from qedge.wire.decode import MemoryModel

SHOTS = 20_000
ROUNDS = 100_000
RATE = 0.003
SERVED = 10_000
PACE_S = 0.0005
TURNS = 3


def never() -> bool:
    """Say that the run is wanted."""
    return False


def block_times_us() -> tuple[Sequence[float], float]:
    """Return the microseconds of single decodings in the quietest round, and the mean of the same shots as a batch."""
    memory = Memory("surface", 5, 5, "z", 0.001)
    matcher = block_decoder(memory)
    rows = memory.circuit().compile_detector_sampler(seed=1).sample(SHOTS).view(np.uint8)
    found = []
    for _ in range(TURNS):
        times = []
        for row in rows:
            began = time.perf_counter_ns()
            matcher.decode(row)
            times.append((time.perf_counter_ns() - began) / 1e3)
        found.append(times)
    began = time.perf_counter_ns()
    matcher.decode_batch(rows)
    return quietest(found), (time.perf_counter_ns() - began) / 1e3 / SHOTS


class Feed:
    """One long stream, fed round by round; `times_us`: those of its windows."""

    def __init__(self, pieces: Pieces, row: np.ndarray) -> None:
        self.times_us: list[float] = []
        self._stream, self._row = Stream(pieces), row
        self._place, self._each = pieces.sizes(0, 1), pieces.sizes(1, 2)
        self._stream.push(row[: self._place])

    def push(self) -> None:
        """Push a round, and note the time where it completed a window."""
        detectors = self._row[self._place : self._place + self._each]
        self._place += self._each
        began = time.perf_counter_ns()
        if self._stream.push(detectors):
            self.times_us.append((time.perf_counter_ns() - began) / 1e3)

    def close(self) -> None:
        """End it with what is left."""
        self._stream.close(self._row[self._place :])


def stream_times_us(distance: int, rounds: int) -> tuple[list[float], float]:
    """Return the microseconds of the windows of one long stream, and how much slower they are at its end."""
    memory = Memory("surface", distance, rounds, "z", RATE)
    pieces = memory_pieces(memory, 2 * distance, distance)
    row = memory.circuit().compile_detector_sampler(seed=distance).sample(1).view(np.uint8)[0]
    long, young = Feed(pieces, row), Feed(pieces, row)
    tenth = rounds // 10
    for number in range(rounds - 1):
        long.push()
        if number >= rounds - 1 - tenth:
            young.push()
    long.close()
    last = long.times_us[-len(young.times_us) :]
    return long.times_us, statistics.median(last) / statistics.median(young.times_us)


async def service_times_us(path: Path) -> list[float]:
    """Return the microseconds from the push that completes a window to its commit, window by window."""
    memory = Memory("surface", 5, SERVED, "z", RATE)
    events = memory.circuit().compile_detector_sampler(seed=6).sample(1).view(np.uint8)[0]
    times = []
    async with (
        NodeClient(path) as node,
        node.decode(MemoryModel("surface", 5, "z", RATE), window=10, commit=5) as stream,
    ):
        first, each = stream.opened.detectors
        begin, end = 0, first
        commits = aiter(stream)
        for number in range(SERVED):
            packed = np.packbits(events[begin:end], bitorder="little").tobytes().ljust(stream.opened.round_bytes, b"\0")
            begin, end = end, end + each
            began = time.perf_counter_ns()
            await stream.push(packed)
            if number >= 10 and number % 5 == 0:
                await anext(commits)
                times.append((time.perf_counter_ns() - began) / 1e3)
            await asyncio.sleep(PACE_S)
    return times


def service_figures() -> list[Figure]:
    """Measure the decode service beside the decoder in this process."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Node(Path(folder) / "node", '[drivers.qrng]\ndriver = "sim_qrng"\n') as node,
    ):
        while not node.socket.exists():
            time.sleep(0.05)
        served = asyncio.run(service_times_us(node.socket))
    alone, _ = stream_times_us(5, SERVED)
    return [
        Figure("qec.service_d5_p50_us", statistics.median(served), "us", len(served), None, statistics.median(alone)),
        Figure("qec.service_d5_p99_us", percentile(served, 0.99), "us", len(served), None, percentile(alone, 0.99)),
    ]


def run() -> list[Figure]:
    """Measure all of it."""
    gc.disable()
    blocks, batch = block_times_us()
    figures = [
        Figure("qec.decode_d5_p50_us", statistics.median(blocks), "us", SHOTS, 5, batch),
        Figure("qec.decode_d5_p99_us", percentile(blocks, 0.99), "us", SHOTS, 20, batch),
        Figure("qec.decode_d5_p999_us", percentile(blocks, 0.999), "us", SHOTS),
    ]
    growth = 0.0
    for distance in (3, 5, 7):
        rounds = ROUNDS if distance == 5 else 20_000
        times, slower = stream_times_us(distance, rounds)
        figures.append(Figure(f"qec.stream_d{distance}_p50_us", statistics.median(times), "us", len(times)))
        figures.append(Figure(f"qec.stream_d{distance}_p99_us", percentile(times, 0.99), "us", len(times)))
        if distance == 5:
            growth = slower
    figures.append(Figure("qec.stream_growth", growth, "×", ROUNDS, 1.05))
    memory = Memory("surface", 3, 30, "z", RATE)
    block = run_block(memory, SHOTS, 9, never)
    stream = run_stream(memory, 6, 3, SHOTS, 9, never)
    sigma = abs(stream.errors - block.errors) / math.sqrt(2 * block.errors * (1 - block.errors / SHOTS))
    figures.append(Figure("qec.window_vs_block_sigma", sigma, "σ", SHOTS, 2))
    for distance in (3, 5, 7):
        logical = run_block(Memory("surface", distance, distance, "z", RATE), 10 * SHOTS, 4, never)
        figures.append(Figure(f"qec.ler_d{distance}_p003", logical.errors / logical.shots, "", logical.shots))
    figures += service_figures()
    gc.enable()
    return figures
