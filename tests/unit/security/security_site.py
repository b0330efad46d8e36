"""A security service on a virtual clock, with a real store and a real audit log, for tests."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from qedge.base.clock import ManualClock
from qedge.base.metrics import Metrics
from qedge.crypto.keys import generate
from qedge.security.config import SecurityConfig
from qedge.security.desk import SecurityDesk
from qedge.security.detection.detector import TICK_S
from qedge.security.fake import FakeContainment, FakeFleet, FakeHerald, FakeSubjects
from qedge.security.model import Subject, SubjectKind
from qedge.security.service import SecurityService
from qedge.store.store import Store
from qedge.wire.incidents import IncidentView

KEY = generate("ml-dsa-65", lambda number: bytes(range(number)))


def device(name: str, *, safety: bool = False, device_class: str = "meter") -> Subject:
    return Subject(name, SubjectKind.DEVICE, device_class=device_class, safety=safety)


class Site:
    """One node; `step` lets time pass for detection, `settle` lets it write and publish."""

    def __init__(
        self, service: SecurityService, desk: SecurityDesk, subjects: FakeSubjects, herald: FakeHerald
    ) -> None:
        self.service = service
        self.desk = desk
        self.subjects = subjects
        self.herald = herald
        self.contained = FakeContainment()
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.folder = Path()

    def add(self, subject: Subject) -> Subject:
        self.subjects.known[subject.id] = subject
        self.service.admit(subject)
        return subject

    def step(self, seconds: float) -> None:
        for tick in range(round(seconds / TICK_S)):
            self.clock.advance_s(TICK_S)
            self.service.tick(self.clock.now_ns())
            if tick % round(1 / TICK_S) == 0:
                self.service.each_second(self.clock.now_ns())

    async def settle(self) -> None:
        """Save and publish as the loop does."""
        self.clock.advance_s(1.1)
        await self.service.keeper.once()

    def incident(self, subject: str) -> IncidentView:
        (found,) = [view for view in self.service.incidents.views() if view.subject == subject]
        return found

    async def rows(self, trail: str = "acts") -> list[dict[str, Any]]:
        await self.service.audit.flush()
        paths = sorted((self.folder / "audit").glob(f"{trail}-*"))
        return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


@asynccontextmanager
async def serving(
    folder: Path,
    *subjects: Subject,
    node: str = "box-1",
    fleet: FakeFleet | None = None,
    clock: ManualClock | None = None,
    running: bool = False,
    **settings: dict[str, Any],
) -> AsyncIterator[Site]:
    """Open a service; `running` also runs its loop in real time. `settings` are tables of `SecurityConfig`."""
    config = msgspec.convert(settings, SecurityConfig)
    metrics, clock = Metrics(), clock or ManualClock()
    folder.mkdir(exist_ok=True)
    store = Store(folder / "q.sqlite3", metrics=metrics)
    known, contained = FakeSubjects(*subjects), FakeContainment()
    herald = (fleet or FakeFleet()).herald(node)
    service = SecurityService(
        node,
        config,
        store=store,
        folder=folder / "audit",
        key=KEY,
        subjects=known,
        containment=contained,
        guard=contained,
        herald=herald,
        clock=clock,
        metrics=metrics,
        random_bytes=os.urandom,
    )
    site = Site(service, SecurityDesk(service, store, clock), known, herald)
    site.contained, site.clock, site.metrics, site.folder = contained, clock, metrics, folder
    task: asyncio.Task[None] | None = None
    if running:
        ready = asyncio.Event()
        task = asyncio.create_task(service.run(ready.set))
        await ready.wait()
    else:
        await service.keeper.open()
        task = asyncio.create_task(service.audit.run())
    for subject in subjects:
        service.admit(subject)
    try:
        yield site
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not running:
            await service.keeper.close()
        store.close()
