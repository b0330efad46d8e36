"""Milliseconds of parsing for a kilobyte of program, and which files of public collections are accepted.

`parse.ms_per_kb` is that of plain gate lists (the slower of OpenQASM 2 and 3), `parse.worst_ms_per_kb` that of the
slowest whole collection file of at least 1 kB. Baseline of the same run: qiskit's parser (Rust) on the same plain list.
The collections: QASMBench's small folder where it is found, and all that mqt-bench writes, where it is installed.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import statistics
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from benchmarks.circuits import brickwork
from benchmarks.report import Figure
from qedge.base.errors import QedgeError
from qedge.engine.front_end import parse
from qedge.engine.qasm.model import ParseLimits

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "qasmbench-small"
LIMITS = ParseLimits(max_text_bytes=16 << 20)
REPEATS = 200
SMALL_VALID = 77
"""Valid files of QASMBench's small folder; in the other 8 measurements name a register that is not declared."""


def parse_ms(text: str, repeats: int = 1) -> float:
    """Return the median time of a parse in milliseconds; raises `QedgeError`."""
    times = []
    gc.collect()
    gc.freeze()  # as a worker does: what rivals have loaded here is no part of a parse
    for _ in range(repeats):
        started = time.thread_time()
        parse(text, LIMITS).bind({}, measure_all=True)
        times.append((time.thread_time() - started) * 1e3)
    return statistics.median(times)


def plain() -> tuple[float, float]:
    """Return ours and qiskit's milliseconds per kilobyte for a list of gates."""
    ours = []
    for version in (2, 3):
        text = brickwork(10, 10, version, version=version)
        ours.append(parse_ms(text, REPEATS) / (len(text) / 1000))
    base = 0.0
    if importlib.util.find_spec("qiskit") is not None:
        qasm2 = importlib.import_module("qiskit.qasm2")
        text = brickwork(10, 10, 2)
        times = []
        for _ in range(REPEATS):
            started = time.thread_time()
            qasm2.loads(text)
            times.append((time.thread_time() - started) * 1e3)
        base = statistics.median(times) / (len(text) / 1000)
    return max(ours), base


def mqt_files() -> Iterator[tuple[int, str]]:
    """Yield `(version, text)` of every circuit that mqt-bench makes of 5 and 10 qubits and qiskit can write."""
    bench = importlib.import_module("mqt.bench")
    listed = importlib.import_module("mqt.bench.benchmarks")
    writers = {version: importlib.import_module(f"qiskit.qasm{version}") for version in (2, 3)}
    for name in listed.get_available_benchmark_names():
        for size in (5, 10):
            try:
                circuit = bench.get_benchmark(name, level=bench.BenchmarkLevel.INDEP, circuit_size=size)
            except Exception:  # noqa: BLE001, S112 # some families have no circuit of this size
                continue
            for version, writer in writers.items():
                try:
                    text = writer.dumps(circuit)
                except Exception:  # noqa: BLE001, S112 # what qiskit cannot write is not asked of us
                    continue
                if text.strip():
                    yield version, text


def run() -> list[Figure]:
    """Parse everything."""
    warnings.simplefilter("ignore")
    ours, base = plain()
    figures = [Figure("parse.ms_per_kb", ours, "ms/kB", 2 * REPEATS, 0.1, base or None)]
    worst = 0.0
    if FOLDER.is_dir():
        valid, placed, files = 0, 0, sorted(FOLDER.glob("*.qasm"))
        for path in files:
            text = path.read_text()
            try:
                elapsed_ms = parse_ms(text, 3)
            except QedgeError as error:
                placed += "line" in error.details and "column" in error.details
                continue
            valid += 1
            worst = max(worst, elapsed_ms / (len(text) / 1000)) if len(text) >= 1000 else worst
        figures.append(
            Figure("parse.qasmbench_small_valid", valid, "files", len(files), SMALL_VALID, SMALL_VALID, at_least=True)
        )
        refused = len(files) - valid
        figures.append(
            Figure("parse.qasmbench_small_refused_with_place", placed, "files", refused, refused, at_least=True)
        )
    if importlib.util.find_spec("mqt.bench") is not None:
        counted = {2: [0, 0], 3: [0, 0]}
        for version, text in mqt_files():
            counted[version][1] += 1
            try:
                elapsed_ms = parse_ms(text, 3)
            except QedgeError:
                continue
            counted[version][0] += 1
            worst = max(worst, elapsed_ms / (len(text) / 1000)) if len(text) >= 1000 else worst
        for version, (accepted, total) in counted.items():
            figures.append(Figure(f"parse.mqt_qasm{version}", accepted, "files", total, total, total, at_least=True))
    figures.append(Figure("parse.worst_ms_per_kb", worst, "ms/kB", 1, 1.0))
    return figures
