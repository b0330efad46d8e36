"""What the stream of events needs of the node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from qedge.wire.jobs import JobView
from qedge.wire.node import NodeStatus


class EventsPort(Protocol):
    """What the hub follows for all readers of the stream."""

    def status(self) -> NodeStatus:
        """Describe the whole node; cheap, called about once a second while someone watches."""
        ...

    def job_events(self) -> AsyncIterator[JobView]:
        """Follow every job whose state changes, from now on. The web room follows once, for all its readers."""
        ...
