"""Server-sent events (WHATWG HTML §9.2) as far as a node speaks them: `event`, `id`, `data`, comments as heartbeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError

MAX_EVENT_BYTES: Final = 8 * 2**20


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its name, its data, and its id where it can be resumed from."""

    name: str
    data: bytes
    id: str = ""


class EventParser:
    """Bytes in, events out; raises `http.bad_request` where one event is absurdly long."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Take bytes as they come and return the events that are complete now."""
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise QedgeError("http.bad_request", "An event of the node is too long.")
        return [event for event in map(_event, blocks) if event is not None]


def _event(block: bytes) -> ServerEvent | None:
    name, data, event_id = "message", [], ""
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"id":
            event_id = value.decode("utf-8", "replace")
        elif field == b"data":
            data.append(value)
    return ServerEvent(name, b"\n".join(data), event_id) if data else None
