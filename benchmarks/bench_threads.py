"""How long a commit takes in the daemon's thread of the database beside an event loop that computes.

`threads.commit_*`: four statements in a thread while another one computes, with the switch interval of the daemon; the
baseline is the interval of the interpreter, in turn. `threads.cpu_ratio` is the CPU time of both against that of the
baseline.
"""

from __future__ import annotations

import queue
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.report import Figure, Machine, percentile
from qedge.daemon.pauses import SWITCH_S

ROUNDS = 5
COMMITS = 80
BUSY_S = 0.002
BUSY_TIMES = 6


class Writer:
    """A thread that writes a row for each time it gets, and tells how long after that it was committed."""

    def __init__(self, path: Path) -> None:
        self.asked: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self.took_s: list[float] = []
        self._path = path
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def close(self) -> None:
        """Let it end."""
        self.asked.put(None)
        self._thread.join()

    def _write(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, data BLOB)")
        while (asked := self.asked.get()) is not None:
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO rows (data) VALUES (?)", (bytes(500),))
            database.execute("SELECT count(*) FROM rows").fetchone()
            database.execute("COMMIT")
            self.took_s.append(time.perf_counter() - asked)
        database.close()


def compute() -> None:
    """Be as busy as a loop with much to do, which looks for the network now and then."""
    for _ in range(BUSY_TIMES):
        until = time.thread_time() + BUSY_S
        while time.thread_time() < until:
            pass
        time.sleep(0)


def measure(folder: Path, number: int, interval_s: float) -> tuple[list[float], float]:
    """Return the times of commits, and the CPU time of all, in seconds."""
    sys.setswitchinterval(interval_s)
    writer, began = Writer(folder / f"{number}.sqlite3"), time.process_time()
    for _ in range(COMMITS):
        writer.asked.put(time.perf_counter())
        compute()
    writer.close()
    return writer.took_s, time.process_time() - began


def run() -> list[Figure]:
    """Measure both intervals in turn."""
    machine, plain_s = Machine(), sys.getswitchinterval()
    ours: list[float] = []
    plain: list[float] = []
    cpu: list[float] = []
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as name:
        for turn in range(ROUNDS):
            machine.look()
            times, cpu_s = measure(Path(name), 2 * turn, SWITCH_S)
            rival, rival_cpu_s = measure(Path(name), 2 * turn + 1, plain_s)
            ours, plain, cpu = ours + times, plain + rival, [*cpu, cpu_s / rival_cpu_s]
    sys.setswitchinterval(plain_s)
    return [
        Figure(
            "threads.commit_p50_ms", percentile(ours, 0.5) * 1e3, "ms", len(ours), None, percentile(plain, 0.5) * 1e3
        ),
        Figure(
            "threads.commit_p99_ms", percentile(ours, 0.99) * 1e3, "ms", len(ours), None, percentile(plain, 0.99) * 1e3
        ),
        Figure("threads.cpu_ratio", statistics.median(cpu), "ratio", len(cpu), None),
        machine.figure(),
    ]
