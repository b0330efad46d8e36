"""Milliseconds of parsing for a kilobyte of program, and which files of public collections are accepted.

`parse.ms_per_kb` is that of plain gate lists (the slower of OpenQASM 2 and 3), `parse.worst_ms_per_kb` that of the
slowest whole collection file of at least 1 kB. Baseline: qiskit's parser (Rust) on the same plain list, in the same
rounds (see `benchmarks.report`); each file of a collection has rounds of its own.
The collections: QASMBench's small folder where it is found, and all that mqt-bench writes, where it is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from benchmarks.circuits import brickwork
from benchmarks.report import ROUNDS, Figure, Machine, quietest
from qedge.base.errors import QedgeError
from qedge.engine.front_end import parse
from qedge.engine.qasm.model import ParseLimits

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "qasmbench-small"
LIMITS = ParseLimits(max_text_bytes=16 << 20)
REPEATS = 60
FILE_REPEATS = 3
SMALL_VALID = 77
"""Valid files of QASMBench's small folder; in the other 8 measurements name a register that is not declared."""


def parse_ms(text: str, repeats: int) -> list[float]:
    """Return the times of parses in milliseconds of CPU; raises `QedgeError`."""
    times = []
    for _ in range(repeats):
        started = time.thread_time()
        parse(text, LIMITS).bind({}, measure_all=True)
        times.append((time.thread_time() - started) * 1e3)
    return times


def file_ms_per_kb(text: str) -> float:
    """Return the milliseconds for a kilobyte of a file, 0 for one below 1 kB; raises `QedgeError`."""
    found = statistics.median(quietest([parse_ms(text, FILE_REPEATS) for _ in range(ROUNDS)]))
    return found / (len(text) / 1000) if len(text) >= 1000 else 0.0


def plain(machine: Machine) -> tuple[float, float]:
    """Return ours and qiskit's milliseconds per kilobyte for a list of gates."""
    texts = {version: brickwork(10, 10, version, version=version) for version in (2, 3)}
    qasm2 = importlib.import_module("qiskit.qasm2") if importlib.util.find_spec("qiskit") is not None else None
    ours: dict[int, list[list[float]]] = {version: [] for version in texts}
    theirs: list[list[float]] = []
    for _ in range(ROUNDS):
        machine.look()
        for version, text in texts.items():
            ours[version].append(parse_ms(text, REPEATS))
        if qasm2 is not None:
            theirs.append([])
            for _ in range(REPEATS):
                started = time.thread_time()
                qasm2.loads(texts[2])
                theirs[-1].append((time.thread_time() - started) * 1e3)
    found = {version: statistics.median(quietest(each)) for version, each in ours.items()}
    base = statistics.median(quietest(theirs)) if theirs else 0.0
    return max(found[version] / (len(text) / 1000) for version, text in texts.items()), base / (len(texts[2]) / 1000)


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
    machine = Machine()
    ours, base = plain(machine)
    figures = [Figure("parse.ms_per_kb", ours, "ms/kB", REPEATS, 0.1, base or None)]
    worst = 0.0
    if FOLDER.is_dir():
        valid, placed, files = 0, 0, sorted(FOLDER.glob("*.qasm"))
        for path in files:
            text = path.read_text()
            try:
                slowness = file_ms_per_kb(text)
            except QedgeError as error:
                placed += "line" in error.details and "column" in error.details
                continue
            valid += 1
            worst = max(worst, slowness)
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
                slowness = file_ms_per_kb(text)
            except QedgeError:
                continue
            counted[version][0] += 1
            worst = max(worst, slowness)
        for version, (accepted, total) in counted.items():
            figures.append(Figure(f"parse.mqt_qasm{version}", accepted, "files", total, total, total, at_least=True))
    figures.append(Figure("parse.worst_ms_per_kb", worst, "ms/kB", FILE_REPEATS, 1.0))
    return [*figures, machine.figure()]
