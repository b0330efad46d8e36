"""A spool in a folder and a broker that a test can take away."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.fleet.telemetry.config import TelemetryConfig
from qedge.fleet.telemetry.model import Item
from qedge.fleet.telemetry.service import TelemetryService
from qedge.fleet.telemetry.spool import Spool
from qedge.store.spool_schemas import TELEMETRY_SCHEMA
from qedge.store.store import Store
from qedge.wire.telemetry import (
    Alarm,
    HealthState,
    JobsReading,
    NodeHealth,
    Severity,
    Telemetry,
    TelemetryBatch,
    TelemetryClass,
    TelemetryEvent,
    TelemetryItem,
)


class FakeUplink:
    """Keeps what it acknowledged. `lose_answers`: what it got it does not acknowledge; `limit`: most items it takes."""

    def __init__(self, *, up: bool = True, limit: int = 10_000) -> None:
        self.is_up = up
        self.lose_answers = False
        self.limit = limit
        self.batches: list[TelemetryBatch] = []

    async def send(self, batch: TelemetryBatch) -> None:
        await asyncio.sleep(0)
        if not self.is_up:
            raise QedgeError("bus.unavailable", "The broker is gone.")
        if len(batch.items) > self.limit:
            raise QedgeError("bus.too_large", "Too large.")
        self.batches.append(batch)
        if self.lose_answers:
            self.is_up = self.lose_answers = False
            raise QedgeError("bus.timeout", "No answer came.")

    def got(self, kind: TelemetryClass) -> list[TelemetryItem]:
        return [item for batch in self.batches if batch.kind is kind for item in batch.items]

    @property
    def total(self) -> int:
        return sum(len(batch.items) for batch in self.batches)


class Site:
    def __init__(self, folder: Path, uplink: FakeUplink, config: TelemetryConfig, clock: ManualClock) -> None:
        self.metrics = Metrics()
        self.clock = clock
        self.uplink = uplink
        self.store = Store(folder / "telemetry.sqlite3", metrics=self.metrics, schema=TELEMETRY_SCHEMA)
        self.spool = Spool(config, self.store, clock=clock, metrics=self.metrics, random_bytes=os.urandom)
        self.service = TelemetryService(config, self.spool, uplink, clock=clock, metrics=self.metrics)

    def put(self, body: Telemetry) -> None:
        self.service.take(Item(self.clock.utc_ns(), body))

    async def until_sent(self, number: int) -> None:
        while self.uplink.total < number:
            await asyncio.sleep(0.002)

    async def until_empty(self) -> None:
        while self.waiting or self.spool.in_memory:
            await asyncio.sleep(0.002)

    @property
    def waiting(self) -> int:
        return sum(lane.rows for lane in self.spool.lanes.values())


def reading(number: int) -> JobsReading:
    """Make a reading that can be told from others."""
    return JobsReading(number, 0, 0, 0)


def numbers(items: list[TelemetryItem]) -> list[int]:
    """Return the numbers of readings."""
    return [item.body.queued for item in items if isinstance(item.body, JobsReading)]


def event(number: int) -> TelemetryEvent:
    """Make an event."""
    return TelemetryEvent("driver.state", "qpu", str(number))


def health(number: int) -> NodeHealth:
    """Make a word on health."""
    return NodeHealth(HealthState.UP, (), "1", float(number))


def alarm(number: int, *, active: bool = True) -> Alarm:
    """Make an alarm."""
    return Alarm("driver-down", f"d{number}", Severity.MAJOR, active, "down", 1)


@asynccontextmanager
async def telemetry(
    folder: Path,
    uplink: FakeUplink,
    config: TelemetryConfig | None = None,
    clock: ManualClock | None = None,
) -> AsyncIterator[Site]:
    """Run telemetry over `folder`."""
    site = Site(folder, uplink, config or TelemetryConfig(replay_per_s=1_000_000), clock or ManualClock())
    up = asyncio.Event()
    task = asyncio.create_task(site.service.run(up.set))
    try:
        await asyncio.wait_for(up.wait(), 20)
        yield site
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        site.store.close()
