"""Segments of the node that tests use: two of them, and a valve that does what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from qedge.base.errors import QedgeError
from qedge.web.segments.ports import OPERATOR
from qedge.wire.segments import (
    AppReading,
    CommandView,
    DeviceCommand,
    OnwardView,
    ReadingsEnded,
    ReadingsLost,
    SegmentDetail,
    SegmentList,
    SegmentMemberView,
    SegmentNews,
    SegmentView,
)


class FakeSegments:
    """A `SegmentsPort`; `commands` keeps what was ordered and by whom."""

    def __init__(self) -> None:
        self.views = {
            "plant": SegmentView("plant", ("level", "flow"), "telemetry", True, True, 2, 1, 7, 30.0, 1200, 3),
            "office": SegmentView("office", ("light",), "critical", False, False, 0, 0, -1, 0.0, 0),
        }
        self.commands: list[tuple[str, str, DeviceCommand]] = []
        self.apps = {OPERATOR, "dashboard"}
        self.followed: list[tuple[str, str, tuple[str, ...], str]] = []
        self.news: tuple[tuple[SegmentNews, ...], ...] = (
            (AppReading("pump-1", "plant", "level", 1_800_000_000_000_000_000, b"3.25"),),
            (),
            (ReadingsLost(7), AppReading("pump-1", "plant", "level", 1_800_000_001_000_000_000, b"\xff\x00")),
            (ReadingsEnded("no_rule"),),
        )

    async def segments(self) -> SegmentList:
        """List the segments."""
        return SegmentList(tuple(self.views.values()), OnwardView(False, 12, 4096, 61.5, 900, {"bulk.space": 4}))

    async def segment(self, name: str) -> SegmentDetail:
        """Describe one."""
        members = (
            SegmentMemberView("device", "pump-1", ("level",)),
            SegmentMemberView("peer", "box-2", ("level", "flow")),
        )
        return SegmentDetail(self._find(name), members, {"start": 1, "left": 2})

    async def rekey(self, name: str, _caller: str) -> SegmentView:
        """Count one epoch more."""
        view = self._find(name)
        self.views[name] = changed = msgspec.structs.replace(view, epoch=view.epoch + 1, epoch_age_s=0.0)
        return changed

    async def command(self, device: str, order: DeviceCommand, caller: str, app: str = OPERATOR) -> CommandView:
        """Do what the valve can: it opens."""
        if device != "valve-1":
            raise QedgeError("command.no_device", f"No device is called {device!r}.")
        if app not in self.apps:
            raise QedgeError("command.refused", f"No rule lets {app} do this.")
        self.commands.append((caller, device, order))
        outcome = {"open": "done", "melt": "refused", "sleep": "unknown"}.get(order.command, "failed")
        return CommandView(device, order.command, "00" * 8, outcome, "90 %", 1.5)

    @asynccontextmanager
    async def follow(
        self, app: str, segment: str, channels: tuple[str, ...], node: str
    ) -> AsyncIterator[AsyncIterator[tuple[SegmentNews, ...]]]:
        """Give what `news` says."""
        self._find(segment)
        if app not in self.apps:
            raise QedgeError("segment.refused", f"No rule lets {app} read this.")
        self.followed.append((app, segment, channels, node))

        async def give() -> AsyncIterator[tuple[SegmentNews, ...]]:
            for each in self.news:
                yield each

        yield give()

    def _find(self, name: str) -> SegmentView:
        if name not in self.views:
            raise QedgeError("segment.not_found", f"No segment is called {name!r}.")
        return self.views[name]
