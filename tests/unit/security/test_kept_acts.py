"""What operators are told is on the disk: a node that is killed right after it does not undo it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from qedge.security import ledger
from qedge.wire.incidents import IncidentView
from tests.unit.security.security_site import device, serving


def open_incidents(folder: Path) -> list[IncidentView]:
    """Read from the database what a start would read."""
    with contextlib.closing(sqlite3.connect(folder / "q.sqlite3")) as connection:
        return list(ledger.read_open(connection))


async def test_what_an_operator_did_is_on_the_disk_when_it_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path, device("meter")) as site:
        await site.desk.quarantine("meter", "a test", "uid:0")
        assert [view.state for view in open_incidents(tmp_path)] == ["contained"]
        await site.desk.release("meter", "", "uid:0")
        assert open_incidents(tmp_path) == [], "a node that was killed now would quarantine it again"
