"""The desk for commands of local tools remembers enough, and never more than it may."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from qedge.base.clock import ManualClock
from qedge.bus.model import Incoming
from qedge.fleet.thin_edge.commands import LocalCommand, Status
from qedge.fleet.thin_edge.desk import CommandDesk
from qedge.fleet.thin_edge.mapping import Json


class Book:
    """Fills `CommandJournal`."""

    async def open(self, since_utc_ns: int) -> Sequence[LocalCommand]:
        """There is nothing."""
        return ()

    async def keep(self, command: LocalCommand, utc_ns: int) -> None:
        """Keep nothing."""


class Nothing:
    """Fills `LocalOperation`: does nothing, at once."""

    about: Mapping[str, Json] = {}
    time_limit_s = 5.0

    async def run(self, command: LocalCommand) -> Mapping[str, Json]:
        """Do nothing."""
        return {}

    async def recover(self, command: LocalCommand) -> Mapping[str, Json] | None:
        """Nothing was begun."""
        return None


async def test_a_tool_that_makes_commands_without_end_takes_no_memory_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qedge.fleet.thin_edge.desk.MOST_KNOWN", 10)
    said: list[tuple[str, bytes]] = []

    async def publish(where: str, payload: bytes) -> None:
        said.append((where, payload))

    desk = CommandDesk({"restart": Nothing()}, Book(), publish, clock=ManualClock())
    running = asyncio.create_task(desk.run())
    for number in range(50):
        await desk.heard(Incoming(f"te/device/main///cmd/restart/{number}", b'{"status":"init"}', 1, False))
        while desk._tasks:
            await asyncio.sleep(0)
    assert len(desk._known) == 10
    assert all(each.status is Status.SUCCESSFUL for each in desk._known.values())
    assert list(desk._known)[-1].endswith("/49")
    assert len([payload for _, payload in said if b"successful" in payload]) == 50
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
