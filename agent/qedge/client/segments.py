"""Segments of attached devices and commands to devices, as methods of a node's client."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from qedge.base.errors import QedgeError
from qedge.client.fleet import Transport
from qedge.wire.segments import (
    AppReading,
    CommandView,
    DeviceCommand,
    ReadingsEnded,
    ReadingsLost,
    SegmentDetail,
    SegmentList,
    SegmentNews,
    SegmentView,
)

OPERATOR: Final = "operator"
"""The app that an operator is to policy."""

_SLACK_S: Final = 10.0
_NEWS: Final[msgspec.json.Decoder[SegmentNews]] = msgspec.json.Decoder(SegmentNews)


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

    async def follow(
        self, segment: str, channels: tuple[str, ...] = (), *, app: str = OPERATOR, node: str = ""
    ) -> AsyncGenerator[AppReading | ReadingsLost, None]:
        """Follow the readings of a segment as an app, of another node where one is named; channels empty: all it has.

        Ends when the daemon stops. Raises `segment.refused` where policy does not let the app, or lets it no more,
        `access.denied` where the caller is not the app, and what `NodeClient.events` raises.
        """
        query = urlencode([*(("channel", each) for each in channels), *((("node", node),) if node else ())])
        path = f"/v1/apps/{quote(app, safe='')}/segments/{quote(segment, safe='')}/readings"
        async with contextlib.aclosing(self._transport.stream(f"{path}?{query}" if query else path)) as events:
            async for event in events:
                news = _NEWS.decode(event.data)
                if isinstance(news, ReadingsEnded):
                    raise QedgeError(
                        "segment.refused",
                        f"{app} may read {segment} no more ({news.reason or 'closed'}).",
                        fix="`qedge policy explain` says which rule would have to permit it.",
                        reason=news.reason,
                    )
                yield news

    async def command(self, device: str, order: DeviceCommand, *, app: str = OPERATOR) -> CommandView:
        """Command a device, as an operator or as an app, and wait for its answer."""
        path = f"/v1/devices/{quote(device, safe='')}/commands"
        if app != OPERATOR:
            path = f"/v1/apps/{quote(app, safe='')}/devices/{quote(device, safe='')}/commands"
        limit_s = order.deadline_s + _SLACK_S
        return await self._transport.ask("POST", path, CommandView, body=order, timeout_s=limit_s)
