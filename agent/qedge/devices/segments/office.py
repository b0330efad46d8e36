"""Segments and commands for the operator's programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from qedge.devices.segments.commanding import CommandDesk
from qedge.devices.segments.model import FOREVER
from qedge.devices.segments.service import SegmentService
from qedge.security.model import MAX_TRUST, Subject, SubjectKind
from qedge.wire.segments import (
    CommandAsk,
    CommandView,
    DeviceCommand,
    OnwardView,
    SegmentDetail,
    SegmentList,
    SegmentView,
)

OPERATOR: Final = Subject(
    "operator", SubjectKind.APP, groups=frozenset({"operators"}), trust=MAX_TRUST, lease_until_ns=FOREVER
)
"""Who an operator is to policy: an app of the group `operators`. Without a rule for it, it commands nothing either."""

Act = Callable[[str, str, str], None]
"""Hears of everything that an operator does: who, what, and to what, for the audit."""


class SegmentOffice:
    """Fills the port of the HTTP interface."""

    def __init__(
        self,
        service: SegmentService,
        desk: CommandDesk,
        onward: Callable[[], OnwardView | None],
        *,
        acted: Act = lambda *_: None,
    ) -> None:
        self._service = service
        self._desk = desk
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

    async def command(self, device: str, order: DeviceCommand, caller: str) -> CommandView:
        """Command a device; raises `command.*`, `store.*`."""
        ask = CommandAsk(device, order.command, order.argument, order.key, order.deadline_s)
        self._acted(caller, f"command {order.command}", device)
        return await self._desk.command(OPERATOR, ask, client=caller)
