"""Full disks, faults and peers that lie: what the security service has promised still holds."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from qedge.base.errors import QedgeError
from qedge.wire.incidents import BoardEntry, IncidentBoard, IncidentChange
from tests.unit.security.security_site import Site, device, serving

T = TypeVar("T")


def fill_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store refuse whatever is not urgent, as it does on a full disk."""
    store = site.service.keeper._store
    write = store.write

    async def refuse(work: Callable[[sqlite3.Connection], T], *, accepted: bool = False) -> T:
        if not accepted:
            raise QedgeError("store.disk_full", "The state directory is full.")
        return await write(work, accepted=True)

    monkeypatch.setattr(store, "write", refuse)


async def test_a_full_disk_keeps_no_quarantine_from_the_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path, device("pump")) as site:
        fill_disk(site, monkeypatch)
        site.service.heard(IncidentBoard("box-2", 5))
        await site.desk.quarantine("pump", "stolen", "ann")
        await site.settle()
        assert [each.device for each in site.herald._fleet.retained["box-1"].entries] == ["pump"]


async def test_checkpoints_that_could_not_be_written_down_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, device("pump")) as site:
        store = site.service.keeper._store
        site.service.audit.record("act", subject="x")  # type: ignore[arg-type]
        await site.service.audit.flush()
        with monkeypatch.context() as patched:

            async def broken(*_: object, **__: object) -> None:
                raise QedgeError("store.unavailable", "The database cannot be used.")

            patched.setattr(store, "write", broken)
            site.service.audit._checked_ns = -(10**15)
            await site.service.audit._tend()
            await site.settle()
        await site.settle()
        assert await store.get_meta("audit_checkpoint_acts")


async def test_a_fault_of_the_watch_ends_it_once_and_not_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, device("pump")) as site:
        service = site.service

        async def faulty() -> None:
            raise RuntimeError("a fault")

        with monkeypatch.context() as patched:
            patched.setattr(service, "_watch", faulty)
            with pytest.raises(ExceptionGroup):
                await service.run(lambda: None)
        again = asyncio.Event()
        running = asyncio.create_task(service.run(again.set))
        await asyncio.wait([running, asyncio.create_task(again.wait())], return_when="FIRST_COMPLETED", timeout=10)
        assert again.is_set()
        await service.audit.keep(subject="pump", action="show", actor="ann")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await service.keeper.open()


async def test_a_peer_writes_nothing_over_an_incident_of_this_node(tmp_path: Path) -> None:
    async with serving(tmp_path, device("pump")) as site:
        await site.desk.quarantine("pump", "stolen", "ann")
        own = site.incident("pump")
        await site.desk.resolve(own.id, IncidentChange("found again", release=True), "ann")
        entry = BoardEntry(own.id, "other", "flooding", "opened", "quarantine", 1.0, 1)
        site.service.heard(IncidentBoard("box-2", 5, (entry,)))
        await site.settle()
        assert (await kept(site, own.id)) == ("box-1", "pump", "found again")


async def kept(site: Site, incident_id: str) -> tuple[str, str, str]:
    """Return what the database has of an incident: node, subject, note."""
    from qedge.security import ledger

    view = await site.service.keeper._store.read(lambda connection: ledger.read_one(connection, incident_id))
    assert view is not None
    return view.node, view.subject, view.note
