"""The desk for commands of local tools remembers enough, and never more than it may."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
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


class SlowBook(Book):
    """A disk that takes its time, or has no room for a while."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Status]] = []
        self.delay_s = 0.0
        self.full: set[Status] = set()

    async def keep(self, command: LocalCommand, utc_ns: int) -> None:
        """Keep it, and say so late."""
        if command.status in self.full:
            self.full.discard(command.status)
            raise QedgeError("store.disk_full", "The disk is full.")
        self.rows.append((command.topic, command.status))
        await asyncio.sleep(self.delay_s)


async def _desk(book: SlowBook, said: list[bytes]) -> tuple[CommandDesk, asyncio.Task[None]]:
    async def publish(_where: str, payload: bytes) -> None:
        said.append(payload)

    desk = CommandDesk({"restart": Nothing()}, book, publish, clock=ManualClock())
    running = asyncio.create_task(desk.run())
    await asyncio.sleep(0)
    return desk, running


ORDER = Incoming("te/device/main///cmd/restart/1", b'{"status":"init"}', 1, False)


async def test_a_command_whose_handling_took_too_long_is_carried_out_now_and_not_at_some_later_start() -> None:
    book, said = SlowBook(), list[bytes]()
    desk, running = await _desk(book, said)
    book.delay_s = 0.1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(desk.heard(ORDER), 0.02)
    book.delay_s = 0.0
    await desk.heard(ORDER)
    async with asyncio.timeout(5):
        while not any(b"successful" in each for each in said):
            await asyncio.sleep(0.01)
    assert [status for _, status in book.rows] == [Status.INIT, Status.EXECUTING, Status.SUCCESSFUL]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(("full", "end"), [(Status.EXECUTING, b"failed"), (Status.SUCCESSFUL, b"successful")])
async def test_a_command_whose_next_state_found_no_room_on_the_disk_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch, full: Status, end: bytes
) -> None:
    monkeypatch.setattr("qedge.fleet.thin_edge.desk._RETRY_S", 0.01)
    book, said = SlowBook(), list[bytes]()
    desk, running = await _desk(book, said)
    book.full = {full}
    await desk.heard(ORDER)
    async with asyncio.timeout(5):
        while not any(end in each for each in said):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
