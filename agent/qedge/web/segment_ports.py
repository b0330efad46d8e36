"""What the HTTP interface needs from segments of attached devices; `devices.segments.office` fills it."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.segments import CommandView, DeviceCommand, SegmentDetail, SegmentList, SegmentView


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

    async def command(self, device: str, order: DeviceCommand, caller: str) -> CommandView:
        """Command a device, and wait for its answer."""
        ...
