"""Segments and commands for the operator's programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from qedge.devices.segments.commanding import CommandDesk
from qedge.devices.segments.model import OPERATOR
from qedge.devices.segments.service import SegmentService
from qedge.devices.segments.watching import WatchDesk
from qedge.wire.segments import (
    CommandAsk,
    CommandView,
    DeviceCommand,
    OnwardView,
    SegmentDetail,
    SegmentList,
    SegmentNews,
    SegmentView,
)

Act = Callable[[str, str, str], None]
"""Hears of everything that an operator does: who, what, and to what, for the audit."""


class SegmentOffice:
    """Fills the port of the HTTP interface."""

    def __init__(
        self,
        service: SegmentService,
        desk: CommandDesk,
        watches: WatchDesk,
        onward: Callable[[], OnwardView | None],
        *,
        acted: Act = lambda *_: None,
    ) -> None:
        self._service = service
        self._desk = desk
        self._watches = watches
        self._onward = onward
        self._acted = acted

    async def segments(self) -> SegmentList:
        """List all segments, and what waits for the upstream."""
        return SegmentList(self._service.views(), self._onward())

    async def segment(self, name: str) -> SegmentDetail:
        """Describe one segment; raises `segment.not_found`."""
        return self._service.detail(name)

    async def rekey(self, name: str, caller: str) -> SegmentView:
        """Give a segment a new key; raises `segment.not_found`."""
        view = self._service.rekey(name)
        self._acted(caller, "rekey", name)
        return view

    async def command(self, device: str, order: DeviceCommand, caller: str, app: str = OPERATOR.id) -> CommandView:
        """Command a device as an app; raises `command.*`, `store.*`."""
        ask = CommandAsk(device, order.command, order.argument, order.key, order.deadline_s)
        self._acted(caller if app == OPERATOR.id else f"{caller} as {app}", f"command {order.command}", device)
        # keys of commands are the caller's own: as another app it is another client
        client = caller if app == OPERATOR.id else f"{caller}/{app}"
        return await self._desk.command(self._watches.subject(app), ask, client=client)

    def follow(
        self, app: str, segment: str, channels: tuple[str, ...], node: str
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[SegmentNews, ...]]]:
        """Follow channels of a segment as an app; raises `segment.*`, `peer.*`, `session.*`, `http.busy`."""
        return self._watches.follow(app, segment, channels, node)
