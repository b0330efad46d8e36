"""An app that reads a segment and commands an actuator: it keeps the level of a tank between two marks.

Run it to see it against a tank and a valve made up here: `python examples/level-control/level_control.py`. At a node a
program follows the segment and commands the valve through `qedge.client`; what it may do stands in the policy:

    app `level-control`  subscribe  segment plant, channel level
    app `level-control`  command    device valve-1, command set
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.devices.segments.commanding import CommandDesk, Pending
from qedge.devices.segments.config import GroupKeyConfig, SegmentConfig
from qedge.devices.segments.fake import FakeDownlink, FakeJudge, FakeKeep, FakeOnward, FakeSegmentBus, FakeSubjects
from qedge.devices.segments.feeds import AppPort
from qedge.devices.segments.model import FOREVER
from qedge.devices.segments.service import SegmentService
from qedge.security.model import Action, Subject, SubjectKind
from qedge_device.commands import DONE, CommandStatus, pack_done, unpack_command

NAME = "level-control"


class Commands(Protocol):
    """What the app may do: send a command, or hear by an exception that policy does not let it."""

    def __call__(self, device: str, command: str, argument: bytes) -> Pending: ...


class LevelControl:
    """Opens the valve below `low` and shuts it above `high`; in between it leaves it as it is."""

    def __init__(self, feed: AppPort, command: Commands, *, low: float, high: float) -> None:
        self._feed = feed
        self._command = command
        self._low = low
        self._high = high
        self._wanted = b""
        self.acknowledged = 0

    async def run(self) -> None:
        """Go on until the feed ends, because the app closes it or because policy takes it away."""
        async for reading in self._feed:
            level = float(reading.body)
            wanted = b"open" if level < self._low else b"shut" if level > self._high else self._wanted
            if wanted == self._wanted:
                continue
            status, _detail = await self._command("valve-1", "set", wanted).answer
            if status is CommandStatus.DONE:  # otherwise the next reading tries again
                self._wanted = wanted
                self.acknowledged += 1


class Tank:
    """A tank with a sensor and a valve, as two devices of the segment `plant`."""

    def __init__(self, say: Callable[[str, str, bytes], None]) -> None:
        self._say = say
        self.level = 5.0
        self.is_open = False
        self.levels: list[float] = []

    def hear(self, _command: str, body: bytes) -> None:
        """Be the valve: do what it is told and say so."""
        request, argument = unpack_command(body)
        self.is_open = argument == b"open"
        self._say("valve-1", DONE, pack_done(request, CommandStatus.DONE))

    def step(self) -> None:
        """Let a moment pass, and be the sensor."""
        self.level += 0.7 if self.is_open else -0.5
        self.levels.append(self.level)
        self._say("sensor-1", "level", f"{self.level:.2f}".encode())


async def main(steps: int = 200) -> Tank:
    """Run the app beside a tank; returns the tank."""
    clock, metrics, downlink, keep = SystemClock(), Metrics(), FakeDownlink(), FakeKeep()
    app = Subject(NAME, SubjectKind.APP, lease_until_ns=FOREVER)
    devices = [
        Subject(name, SubjectKind.DEVICE, segment="plant", lease_until_ns=FOREVER) for name in ("sensor-1", "valve-1")
    ]
    subjects = FakeSubjects(app, *devices)
    judge = FakeJudge((NAME, Action.SUBSCRIBE, "level"), (NAME, Action.COMMAND, "set"))
    service = SegmentService(
        "fleet",
        "box",
        {"plant": SegmentConfig(("level",), retention="critical", apps=(NAME,))},
        GroupKeyConfig(),
        judge=judge,
        subjects=subjects,
        downlink=downlink,
        bus=FakeSegmentBus(),
        keep=keep,
        onward=FakeOnward(),
        clock=clock,
        metrics=metrics,
        random_bytes=os.urandom,
    )
    desk = CommandDesk(judge, subjects, downlink, keep, clock=clock, metrics=metrics, random_bytes=os.urandom)
    service.bind(answers=desk)

    def say(device: str, channel: str, body: bytes) -> None:
        subject = subjects.find(SubjectKind.DEVICE, device)
        if subject is not None:
            service.take(subject, channel, body, clock.now_ns())

    tank = Tank(say)
    downlink.devices["valve-1"] = tank.hear
    feed = service.open_feed(NAME, "plant", ("level",))
    control = LevelControl(
        feed, lambda device, command, argument: desk.issue(app, device, command, argument), low=4.0, high=6.0
    )
    running = asyncio.create_task(control.run())
    for _ in range(steps):
        tank.step()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    feed.close()
    await running
    print(f"level between {min(tank.levels):.1f} and {max(tank.levels):.1f}, valve moved {control.acknowledged} times")
    return tank


if __name__ == "__main__":
    asyncio.run(main())
