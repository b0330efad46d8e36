"""How soon a node is ready, and what its daemon weighs when idle.

`startup.ready_s`: from exec to READY=1 with all simulated drivers and a private broker, median of 10; baseline: the
interpreter importing asyncio, the least any such daemon needs. `startup.idle_pss_mib`: the daemon process after half a
minute at rest.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.node import Node
from benchmarks.report import Figure

STARTS = 10
IDLE_S = 30.0


def run() -> list[Figure]:
    """Measure."""
    ready, bare = [], []
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as folder:
        for index in range(STARTS):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import asyncio"], check=True)
            bare.append(time.perf_counter() - started)
            with Node(Path(folder) / f"n{index}") as node:
                ready.append(node.ready_s)
        with Node(Path(folder) / "idle") as node:
            time.sleep(IDLE_S)
            weight = node.pss_mib()
    return [
        Figure("startup.ready_s", statistics.median(ready), "s", STARTS, 1.5, statistics.median(bare)),
        Figure("startup.idle_pss_mib", weight, "MiB", 1, 64),
    ]
