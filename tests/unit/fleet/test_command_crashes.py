"""The node dies, or loses its broker, at every point of a command: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.fleet.commands.model import Entry
from qedge.fleet.commands.ports import AfterCrash, Recovered
from tests.unit.fleet.command_site import FLEET, NODE, Answer, CommandSite, ScriptedExecutor

POINTS = (
    "before accepted",
    "accepted",
    "before starting",
    "starting",
    "before announced",
    "announced",
    "before running",
    "running",
    "before progress",
    "progress",
    "done",
    "before ended",
    "ended",
    "before told",
    "told",
)
BEFORE_EFFECTS = POINTS[: POINTS.index("before running") + 1]
SURELY_ENDED = ("ended", "before told", "told")

# the rest is for the long run: where nothing ran yet, the policy makes no difference
CASES = [
    pytest.param(
        point,
        after,
        marks=[] if (after is AfterCrash.RERUN) == (point in BEFORE_EFFECTS) or point == "done" else [pytest.mark.long],
    )
    for after in AfterCrash
    for point in POINTS
]


class Interrupted:
    """Calls `act` when the command first reaches `point`; a node that is dead goes no further."""

    def __init__(
        self, site: CommandSite, work: ScriptedExecutor, point: str, act: Callable[[], Awaitable[None]]
    ) -> None:
        self.point = point
        self.reached = asyncio.Event()
        self._act = act
        journal, line = site.service.journal, site.bus
        add, change, publish = journal.add, journal.change, line.publish
        seen: list[str] = []
        kept: list[str] = []

        async def added(entry: Entry) -> None:
            await self._at("before accepted")
            await add(entry)
            await self._at("accepted")

        async def changed(entry: Entry) -> None:
            name = "ended" if entry.ended else str(entry.phase)
            if name == "running" and "running" in seen:
                name = "progress"
            seen.append(name)
            await self._at(f"before {name}")
            await change(entry)
            kept.append(name)
            await self._at(name)

        async def published(where: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0) -> None:
            name = "told" if "ended" in kept else "announced" if "starting" in kept and "running" not in seen else ""
            if name and "/cmd-state/" in where:
                await self._at(f"before {name}")
            await publish(where, payload, qos=qos, retain=retain, expiry_s=expiry_s)
            if name and "/cmd-state/" in where:
                await self._at(name)

        journal.add = added  # type: ignore[method-assign] # a test that looks inside
        journal.change = changed  # type: ignore[method-assign] # as above
        line.publish = published  # type: ignore[method-assign] # as above
        work.after_effect = lambda: self._at("done")

    async def _at(self, point: str) -> None:
        if point == self.point and not self.reached.is_set():
            self.reached.set()
            await self._act()


async def never() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("point", "after"), CASES)
async def test_a_node_that_dies_goes_on_or_says_why_not(tmp_path: Path, point: str, after: AfterCrash) -> None:
    work = ScriptedExecutor(after_crash=after)
    site = CommandSite(tmp_path, work)
    await site.start()
    dies = Interrupted(site, work, point, never)
    command = site.send()
    async with asyncio.timeout(30):
        await dies.reached.wait()
    await site.kill()
    did = len(work.done)
    work.after_effect = None
    work.found = Recovered(result=Answer("found")) if did else Recovered(go_on=True)
    await site.start()
    report = await site.end(command)
    if point in BEFORE_EFFECTS or point in SURELY_ENDED or after is AfterCrash.CHECK:
        assert report.state == "successful"
        assert work.done == [command]
    elif after is AfterCrash.RERUN:
        assert report.state == "successful"
        assert len(work.done) == did + 1
    else:
        assert (report.state, report.code) == ("failed", "order.interrupted")
        assert len(work.done) == did
    # whenever it ended, the audit log has it
    assert [decision for _, decision, _ in site.acts.rows][-1] == report.state
    # each command again, and another after it
    began = list(work.began)
    site.broker.publish(
        f"qedge/v1/{FLEET}/{NODE}/cmd/{command}", site.broker.retained[f"qedge/v1/{FLEET}/{NODE}/cmd/{command}"]
    )
    await site.quiet()
    assert work.began == began
    assert (await site.end(site.send())).state == "successful"
    await site.kill()


@pytest.mark.parametrize("point", POINTS)
async def test_a_command_is_done_once_though_the_broker_is_cut(tmp_path: Path, point: str) -> None:
    work = ScriptedExecutor(after_crash=AfterCrash.FAIL)
    site = CommandSite(tmp_path, work)
    await site.start()
    again: list[asyncio.Task[None]] = []

    async def cut() -> None:
        site.bus.connected = False
        again.append(asyncio.create_task(back()))
        if "told" in point or "announced" in point:
            raise QedgeError("bus.unavailable", "The broker is gone.")

    async def back() -> None:
        await asyncio.sleep(0.05)
        await site.bus.connect()

    cuts = Interrupted(site, work, point, cut)
    command = site.send()
    report = await site.end(command)
    await asyncio.gather(*again)
    assert cuts.reached.is_set() or point in ("before told", "told")
    assert report.state == "successful"
    assert work.done == [command]
    await site.kill()
