"""What the job service needs from the rest of the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import msgspec

from qedge.wire.jobs import JobState, JobSubmission, JobView
from qedge.workers.model import Msg


class QpuPort(Protocol):
    """A QPU behind its workers."""

    @property
    def name(self) -> str:
        """Name of the driver instance."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether it is a QPU, unlocked and up."""
        ...

    @property
    def capacity(self) -> int:
        """How many jobs it runs at once."""
        ...

    @property
    def spares(self) -> int:
        """How many further workers stand ready."""
        ...

    async def call(
        self, method: str, args: Mapping[str, Msg], *, deadline_s: float, light: bool = False, rank: int = 1
    ) -> Msg:
        """Call a circuit worker; `light` calls may also use a spare worker.

        Of calls that wait for a worker the one with the lowest `rank` goes first: 0 critical, 1 interactive, 2 batch.
        """
        ...


@dataclass(frozen=True, slots=True)
class PeerNode:
    """Another node of the fleet: whether it shows signs of life, and whether it says that it has a QPU.

    `left`: it said that it leaves, and is not back.
    """

    name: str
    alive: bool
    has_qpu: bool
    epoch: int
    left: bool = False


Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


PARTS: Final = "/parts"
"""In place of a runner's name: the job was cut into parts. No node can be called so."""
ANY: Final = "any"
"""In place of a node's name: whichever can."""


class Elsewhere(Protocol):
    """Sees to jobs that other nodes run."""

    def shares(self) -> bool:
        """Say whether jobs for any node go through the ledger of all, this node among them."""
        ...

    def totals(self) -> Mapping[JobState, int]:
        """Count the jobs that are away, by state."""
        ...

    def knows(self, job_id: str) -> JobView | None:
        """Return a job that is away and has not ended."""
        ...

    async def submit(self, submission: JobSubmission, client: str) -> str:
        """Accept a job for another node and return its id."""
        ...

    async def cancel(self, job_id: str) -> None:
        """End a job that is away."""
        ...


class Peers(Protocol):
    """The other nodes, reached through sealed sessions."""

    def nodes(self) -> Sequence[PeerNode]:
        """Describe all that are known, gone ones included."""
        ...

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask a node; raises `peer.*`, `bus.*`, `session.*` where it cannot be reached, or the node's own error."""
        ...

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer every question of this type; `serve` gets the name of the node that asks, which is proved."""
        ...

    def on_change(self, hook: Callable[[], None]) -> None:
        """Call `hook` after every change among the nodes."""
        ...


class Memory(Protocol):
    """How much memory jobs can find."""

    def available_bytes(self) -> int:
        """Bytes that can be used now without swapping, within the limits of the service's control group."""
        ...
