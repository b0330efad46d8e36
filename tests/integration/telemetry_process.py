"""Telemetry of a node as a process that may be killed.

`python -m tests.integration.telemetry_process FOLDER QUIET`: each class counts; what is on the disk for sure is written
to `accepted`, what the broker got to `got`. The broker comes and goes by itself, and now and then an answer is lost.
With QUIET 1 nothing new is taken, and `empty` is made when nothing waits any more.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from pathlib import Path

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.fleet.telemetry.config import TelemetryConfig
from qedge.fleet.telemetry.model import Item
from qedge.fleet.telemetry.service import TelemetryService
from qedge.fleet.telemetry.spool import Spool
from qedge.store.spool_schemas import TELEMETRY_SCHEMA
from qedge.store.store import Store
from qedge.wire.telemetry import JobsReading, TelemetryBatch, TelemetryEvent


class FileUplink:
    """A broker that writes down what it got before it answers, if it answers."""

    def __init__(self, folder: Path, *, steady: bool) -> None:
        self._log = os.open(folder / "got", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._steady = steady

    @property
    def is_up(self) -> bool:
        """Up for half of the time."""
        return self._steady or time.monotonic() % 0.3 < 0.15

    async def send(self, batch: TelemetryBatch) -> None:
        """Get a message."""
        if not self.is_up:
            raise QedgeError("bus.unavailable", "The broker is gone.")
        lines = []
        for item in batch.items:
            number = item.body.queued if isinstance(item.body, JobsReading) else int(item.body.text)  # type: ignore[union-attr] # of two kinds
            lines.append(f"{batch.kind} {item.sequence} {number} {int(item.historical)}\n")
        os.write(self._log, "".join(lines).encode())
        if not self._steady and random.random() < 0.2:
            raise QedgeError("bus.timeout", "No answer came.")


async def take(service: TelemetryService, spool: Spool, kind: str, first: int, log: int) -> None:
    """Tell bursts and go on when they are safe."""
    number = first
    while True:
        burst = range(number, number + random.randint(1, 80))
        for each in burst:
            body = JobsReading(each, 0, 0, 0) if kind == "reading" else TelemetryEvent("e", "s", str(each))
            service.take(Item(time.time_ns(), body))
        await spool.settled()
        os.write(log, "".join(f"{kind} {each}\n" for each in burst).encode())
        number = burst.stop
        await asyncio.sleep(0.002)


async def main(folder: Path, *, quiet: bool) -> None:
    """Run until killed."""
    metrics, clock = Metrics(), SystemClock()
    store = Store(folder / "telemetry.sqlite3", metrics=metrics, schema=TELEMETRY_SCHEMA)
    config = TelemetryConfig(replay_per_s=1_000_000)
    spool = Spool(config, store, clock=clock, metrics=metrics, random_bytes=os.urandom)
    service = TelemetryService(config, spool, FileUplink(folder, steady=quiet), clock=clock, metrics=metrics)
    log = os.open(folder / "accepted", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    # whoever restarts counts on far above everything that was counted before
    first = time.time_ns() // 1000
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(service.run(ready.set))
        await ready.wait()
        (folder / "up").touch()
        if quiet:
            while sum(lane.rows for lane in spool.lanes.values()):
                await asyncio.sleep(0.01)
            (folder / "empty").touch()
            return
        for kind in ("reading", "event"):
            group.create_task(take(service, spool, kind, first, log))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), quiet=sys.argv[2] == "1"))
