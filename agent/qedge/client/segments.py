"""Segments of attached devices and commands to devices, as methods of a node's client."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from qedge.client.fleet import Transport
from qedge.wire.segments import CommandView, DeviceCommand, SegmentDetail, SegmentList, SegmentView

_SLACK_S: Final = 10.0


class SegmentsClient:
    """Segments, their keys, and commands; every method raises `QedgeError`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def segments(self) -> SegmentList:
        """List all segments, and what waits for the upstream."""
        return await self._transport.ask("GET", "/v1/segments", SegmentList)

    async def segment(self, name: str) -> SegmentDetail:
        """Describe one segment with its members."""
        return await self._transport.ask("GET", f"/v1/segments/{quote(name, safe='')}", SegmentDetail)

    async def rekey(self, name: str) -> SegmentView:
        """Give a segment a new key."""
        return await self._transport.ask("POST", f"/v1/segments/{quote(name, safe='')}/rekey", SegmentView)

    async def command(self, device: str, order: DeviceCommand) -> CommandView:
        """Command a device and wait for its answer."""
        path = f"/v1/devices/{quote(device, safe='')}/commands"
        limit_s = order.deadline_s + _SLACK_S
        return await self._transport.ask("POST", path, CommandView, body=order, timeout_s=limit_s)
