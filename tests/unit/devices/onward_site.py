"""A spool in a folder and an upstream that a test can take away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.devices.onward.config import OnwardConfig
from qedge.devices.onward.judging import UpstreamGate
from qedge.devices.onward.service import OnwardService
from qedge.devices.segments.fake import FakeJudge
from qedge.security.model import Action, Reason
from qedge.security.ports import Judge
from qedge.store.spool_schemas import SPOOL_SCHEMA
from qedge.store.store import Store
from qedge.wire.segments import OnwardReading, OnwardReadings


class FakeUplink:
    """Keeps what it acknowledged. `lose_answers`: what it got it does not acknowledge."""

    def __init__(self, *, up: bool = True) -> None:
        self.is_up = up
        self.lose_answers = False
        self.got: list[OnwardReading] = []
        self.messages: list[OnwardReadings] = []

    async def send(self, readings: OnwardReadings) -> None:
        await asyncio.sleep(0)
        if not self.is_up:
            raise QedgeError("bus.unavailable", "The way upstream is gone.")
        self.got += readings.readings
        self.messages.append(readings)
        if self.lose_answers:
            self.is_up = self.lose_answers = False
            raise QedgeError("bus.timeout", "No answer came.")


class Site:
    def __init__(
        self, folder: Path, uplink: FakeUplink, config: OnwardConfig, clock: ManualClock, judge: Judge | None
    ) -> None:
        self.metrics = Metrics()
        self.clock = clock
        self.uplink = uplink
        self.store = Store(folder / "spool.sqlite3", metrics=self.metrics, schema=SPOOL_SCHEMA)
        self.denied: list[tuple[str, str, Reason]] = []
        self.gate = UpstreamGate(
            judge or FakeJudge(("upstream", Action.SUBSCRIBE, "*")),
            lambda subject, _action, resource, decision: self.denied.append(
                (subject.kind if subject else "", resource.name, decision.reason)
            ),
            None,
            clock=clock,
            metrics=self.metrics,
        )
        self.onward = self.gate.onward = OnwardService(
            config, self.store, uplink, clock=clock, metrics=self.metrics, may_send=self.gate.may_send
        )

    async def until_sent(self, number: int) -> None:
        while len(self.uplink.got) < number:
            await asyncio.sleep(0.005)

    async def until_empty(self) -> None:
        while self.onward.view().waiting:
            await asyncio.sleep(0.005)


@asynccontextmanager
async def spooling(
    folder: Path,
    uplink: FakeUplink,
    config: OnwardConfig | None = None,
    clock: ManualClock | None = None,
    judge: Judge | None = None,
) -> AsyncIterator[Site]:
    """Run the way upstream over `folder`."""
    site = Site(folder, uplink, config or OnwardConfig(), clock or ManualClock(), judge)
    up = asyncio.Event()
    task = asyncio.create_task(site.onward.run(up.set))
    try:
        await asyncio.wait_for(up.wait(), 20)
        yield site
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        site.store.close()
