"""The audit log tells which version started, and which was before it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from qedge.base.clock import ManualClock
from qedge.base.metrics import Metrics
from qedge.crypto.keys import generate
from qedge.security.audit.log import AuditLog
from qedge.security.audit.starting import record_start
from qedge.security.config import AuditConfig
from qedge.wire.audit import AuditKind, AuditRow, AuditTrail

KEY = generate("ml-dsa-44", os.urandom)


@asynccontextmanager
async def log(folder: Path) -> AsyncIterator[AuditLog]:
    made = AuditLog(folder / "audit", AuditConfig(), KEY, clock=ManualClock(), metrics=Metrics())
    await made.open()
    writing = asyncio.create_task(made.run())
    yield made
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await made.close()


async def start(folder: Path, *versions: str) -> list[AuditRow]:
    """Start versions one after the other; returns the rows that tell of a new one."""
    for version in versions:
        async with log(folder) as opened:
            await record_start(opened, "box", version)
    async with log(folder) as opened:
        return [row for row in await opened.rows(AuditTrail.ACTS, 1000) if row.action == "version"]


async def test_a_version_that_starts_for_the_first_time_is_told_with_the_one_before(tmp_path: Path) -> None:
    rows = await start(tmp_path, "0.1.0", "0.1.0", "0.2.0", "0.2.0", "0.1.0")
    assert [(row.resource, row.facts["before"]) for row in rows] == [("0.2.0", "0.1.0"), ("0.1.0", "0.2.0")]
    assert all((row.decision, row.actor) == ("started", "node") for row in rows)


async def test_the_first_start_of_a_box_is_no_update(tmp_path: Path) -> None:
    assert await start(tmp_path, "0.2.0") == []


async def test_a_version_before_that_noted_nothing_is_told_as_such(tmp_path: Path) -> None:
    async with log(tmp_path) as old:
        old.record(AuditKind.ACT, subject="box", action="start", actor="node")
    (row,) = await start(tmp_path, "0.2.0", "0.2.0")
    assert (row.resource, row.facts["before"]) == ("0.2.0", "an older one")


async def test_every_start_says_its_version(tmp_path: Path) -> None:
    async with log(tmp_path) as opened:
        await record_start(opened, "box", "0.2.0", mode="enforce")
        (row,) = await opened.rows(AuditTrail.ACTS, 10)
    assert (row.action, row.facts) == ("start", {"version": "0.2.0", "mode": "enforce"})


async def test_a_note_that_cannot_be_read_or_written_stops_no_start(tmp_path: Path) -> None:
    async with log(tmp_path) as opened:
        (opened.folder / "version").mkdir()
        await record_start(opened, "box", "0.2.0")
        assert [row.action for row in await opened.rows(AuditTrail.ACTS, 10)] == ["start"]
