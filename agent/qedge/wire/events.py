"""What happens at a node, told as it happens."""

from __future__ import annotations

import msgspec

Detail = str | int | float | bool | None


class NodeEvent(msgspec.Struct, frozen=True, tag_field="type", tag="node-event/1"):
    """One thing that happened: `name` is a key of `qedge.base.events.EVENTS`, `level` `info`, `warning` or `error`.

    `fields` are those of the log line, without secrets; values that are no number or text are written as JSON.
    """

    name: str
    utc_ns: int
    level: str = "info"
    room: str = ""
    fields: dict[str, Detail] = {}

    @property
    def kind(self) -> str:
        """Return the part of the name before its dot: `peer`, `job`, `qkd`, …"""
        return self.name.partition(".")[0]


class EventGap(msgspec.Struct, frozen=True, tag_field="type", tag="event-gap/1"):
    """Events are missing before the next one: `missed` of them, −1 where the node was started anew in between."""

    missed: int
