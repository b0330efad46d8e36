"""The daemon offers software updates to fleet operators, and writes down those that nobody of the fleet ordered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.metrics import Metrics
from qedge.config import AgentConfig
from qedge.crypto.keys import generate
from qedge.daemon.fleet.update import AuditedUpdates, make_update
from qedge.fleet.commands import rows
from qedge.fleet.commands.model import Entry, Phase
from qedge.fleet.update.model import EndedUpdate
from qedge.fleet.update.recording import UpdateRecorder
from qedge.security.audit.log import AuditLog
from qedge.security.config import AuditConfig
from qedge.store.store import Store
from qedge.wire.audit import AuditTrail
from qedge.wire.update import Outcome, UpdateReport
from tests.unit.fleet.update.bundles import make_site

KEY = generate("ml-dsa-44", os.urandom)


def test_one_kind_of_command_comes_of_it(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    config = AgentConfig()
    config = msgspec.structs.replace(config, node=msgspec.structs.replace(config.node, state_dir=str(tmp_path)))
    (executor,) = make_update(config, ManualClock(), lambda: True, site.disk.layout.root)
    assert executor.kind == "software-update"


class AuditedBox:
    """A box with an updater that remembers, and a daemon with a database and an audit log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = make_site(folder).disk
        self.disk.prepare()
        self.store = Store(folder / "qedge.sqlite3", metrics=Metrics())
        self.log = AuditLog(folder / "audit", AuditConfig(), KEY, clock=ManualClock(), metrics=Metrics())

    def end(self, order: str, outcome: Outcome, *, local: bool = True, back: bool = False, code: str = "") -> None:
        report = UpdateReport(order, outcome, "0.2.0", "0.1.0", 1, code, "It hangs." if code else "")
        self.disk.note_end(EndedUpdate(report, local, back))

    async def start_and_look(self) -> None:
        """Let a daemon begin that knows nothing but what is on the disk."""
        book = AuditedUpdates(self.log, self.store, "box", self.folder / "audit")
        await UpdateRecorder(self.disk, book).look()

    async def rows(self) -> list[tuple[str, str, str, str]]:
        """Return actor, order, outcome and reason of what stands in the log."""
        found = await self.log.rows(AuditTrail.ACTS, 1000)
        return [(row.actor, row.resource, row.decision, row.rule) for row in found if row.action == "software-update"]


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[AuditedBox]:
    made = AuditedBox(tmp_path)
    await made.log.open()
    writing = asyncio.create_task(made.log.run())
    yield made
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await made.log.close()
    made.store.close()


async def test_what_root_did_is_audited_once_whatever_became_of_it(box: AuditedBox) -> None:
    await box.start_and_look()
    assert await box.rows() == []
    box.end("local-1", Outcome.REFUSED, code="update.bad_signature")
    box.end("local-2", Outcome.ROLLED_BACK, code="update.rolled_back")
    await box.start_and_look()
    await box.start_and_look()
    box.end("local-3", Outcome.KEPT)
    box.end("local-4", Outcome.KEPT, back=True)
    box.end("offer-1", Outcome.KEPT, local=False)
    await box.start_and_look()
    assert await box.rows() == [
        ("root", "local-1", "refused", "update.bad_signature"),
        ("root", "local-2", "rolled-back", "update.rolled_back"),
        ("root", "local-3", "kept", "a bundle"),
        ("root", "local-4", "kept", "back to the version before"),
        ("a local tool", "offer-1", "kept", "a bundle"),
    ]
    (row,) = [row for row in await box.log.rows(AuditTrail.ACTS, 1000) if row.resource == "local-2"]
    assert (row.subject, row.facts["version"], row.facts["reason"]) == ("box", "0.2.0", "It hangs.")


async def test_a_database_that_was_put_back_or_a_crash_in_between_audits_nothing_twice(box: AuditedBox) -> None:
    box.end("local-1", Outcome.KEPT)
    await box.start_and_look()
    await box.store.set_meta("updates-audited", "")
    await box.start_and_look()
    assert [row[1] for row in await box.rows()] == ["local-1"]


async def test_what_a_command_of_the_fleet_ordered_stands_in_the_log_as_a_command_alone(box: AuditedBox) -> None:
    command = "01a2246a-6fcc-7d9f-829a-ff8a1f1967df"
    entry = Entry(
        command, "software-update", "update", Phase.WAITING, 1, "olga", "00", 1, b"digest", b"request", 1, 1, 2
    )
    await box.store.write(lambda connection: rows.insert(connection, entry))
    box.end(command, Outcome.KEPT, local=False)
    await box.start_and_look()
    assert await box.rows() == []
