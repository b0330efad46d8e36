"""What placement needs from the rest of the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from qedge.engine.changes import Changes
from qedge.engine.lanes import Occupancy
from qedge.wire.jobs import JobEstimate, JobSubmission
from qedge.wire.mesh import PeerList

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


class Jobs(Protocol):
    """The job service of this node."""

    def occupancy(self) -> Occupancy:
        """Say what the QPUs have to do now."""
        ...

    def expected_s(self, estimate: JobEstimate | None) -> float:
        """Return how long a run is likely to take."""
        ...

    async def estimate(self, submission: JobSubmission, *, binding: bool = True) -> JobEstimate:
        """Parse and estimate; where it is not `binding`, nothing is refused for its size."""
        ...

    @property
    def changes(self) -> Changes:
        """What tells of changes."""
        ...


class Fleet(Protocol):
    """The other nodes, reached through sealed sessions."""

    def peers(self) -> PeerList:
        """Describe all members, this node included."""
        ...

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask a node."""
        ...

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer every question of this type."""
        ...

    def on_change(self, hook: Callable[[], None]) -> None:
        """Call `hook` after every change among the nodes."""
        ...
