"""The way upstream of a node as a process that may be killed.

`python -m tests.integration.spool_process FOLDER QUIET`: each device counts; what is on the disk for sure is written to
`accepted`, what the upstream has got to `got`. The way upstream comes and goes by itself, and now and then an answer is
lost. With QUIET 1 nothing new is taken, and `empty` is made when nothing waits any more.
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
from qedge.devices.onward.config import OnwardConfig
from qedge.devices.onward.service import OnwardService
from qedge.devices.segments.model import RetentionClass
from qedge.store.spool_schemas import SPOOL_SCHEMA
from qedge.store.store import Store
from qedge.wire.segments import OnwardReadings

DEVICES = 5
CLASSES = (RetentionClass.CRITICAL, RetentionClass.TELEMETRY)


class FileUplink:
    """An upstream that writes down what it got before it answers, if it answers."""

    def __init__(self, folder: Path, *, steady: bool) -> None:
        self._log = os.open(folder / "got", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._steady = steady

    @property
    def is_up(self) -> bool:
        """Up for half of the time."""
        return self._steady or time.monotonic() % 0.3 < 0.15

    async def send(self, readings: OnwardReadings) -> None:
        """Get a message."""
        if not self.is_up:
            raise QedgeError("bus.unavailable", "The way upstream is gone.")
        lines = (f"{each.device} {each.sequence} {each.body.decode()}\n" for each in readings.readings)
        os.write(self._log, "".join(lines).encode())
        if not self._steady and random.random() < 0.2:
            raise QedgeError("bus.timeout", "No answer came.")


async def take(onward: OnwardService, device: int, first: int, log: int) -> None:
    """Be a device that sends bursts and goes on when they are safe."""
    number = first
    while True:
        burst = range(number, number + random.randint(1, 60))
        for each in burst:
            onward.put(f"d{device}", "plant", "level", CLASSES[device % 2], time.time_ns(), str(each).encode())
        await onward.settled()
        os.write(log, "".join(f"d{device} {each}\n" for each in burst).encode())
        number = burst.stop
        await asyncio.sleep(0.002)


async def main(folder: Path, *, quiet: bool) -> None:
    """Run until killed."""
    metrics = Metrics()
    store = Store(folder / "spool.sqlite3", metrics=metrics, schema=SPOOL_SCHEMA)
    config = OnwardConfig(replay_per_s=1_000_000)
    onward = OnwardService(config, store, FileUplink(folder, steady=quiet), clock=SystemClock(), metrics=metrics)
    log = os.open(folder / "accepted", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    # whoever restarts counts on far above everything that was counted before
    first = time.time_ns() // 1000
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(onward.run(ready.set))
        await ready.wait()
        (folder / "up").touch()
        if quiet:
            while onward.view().waiting:
                await asyncio.sleep(0.01)
            (folder / "empty").touch()
            return
        for device in range(DEVICES):
            group.create_task(take(onward, device, first, log))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), quiet=sys.argv[2] == "1"))
