"""What the HTTP interface needs from segments of attached devices; `devices.segments.office` fills it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from qedge.wire.segments import CommandView, DeviceCommand, SegmentDetail, SegmentList, SegmentNews, SegmentView

OPERATOR: Final = "operator"
"""Who an operator is to policy: the app of this name."""


class SegmentsPort(Protocol):
    """Segments, their keys, and commands to devices. Methods raise `segment.*` and `command.*`."""

    async def segments(self) -> SegmentList:
        """List all segments, and what waits for the upstream."""
        ...

    async def segment(self, name: str) -> SegmentDetail:
        """Describe one segment."""
        ...

    async def rekey(self, name: str, caller: str) -> SegmentView:
        """Give a segment a new key."""
        ...

    async def command(self, device: str, order: DeviceCommand, caller: str, app: str = OPERATOR) -> CommandView:
        """Command a device as an app, and wait for its answer."""
        ...

    def follow(
        self, app: str, segment: str, channels: tuple[str, ...], node: str
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[SegmentNews, ...]]]:
        """Follow channels of a segment as an app, `node` empty: of this node. Nothing new now and then is `()`.

        Raises `segment.*`, `peer.*`, `session.*` and `http.busy`.
        """
        ...


class SegmentsNode(Protocol):
    """The node, as far as this is about it."""

    @property
    def segments(self) -> SegmentsPort:
        """Segments of attached devices; raises `segment.off` where there are none."""
        ...
