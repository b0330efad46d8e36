"""What the ledger needs from the rest of the node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from qedge.engine.changes import Changes
from qedge.engine.keeper import Keeper
from qedge.orchestrator.ledger.errand import Errand
from qedge.orchestrator.placement.model import Wish
from qedge.wire.jobs import JobSubmission, JobView
from qedge.wire.ledger import JobRecord


class Placer(Protocol):
    """Says which node runs a job."""

    def place(self, wish: Wish, *, barred: frozenset[str] = frozenset()) -> str:
        """Return a node that is not barred, this one included, or nothing where none can run it now."""
        ...

    def check(self, wish: Wish) -> None:
        """Raise `job.unplaceable` or `job.deadline_unreachable` where waiting would change nothing."""
        ...


class Standings(Protocol):
    """Keeps what results of other nodes have been worth."""

    @property
    def barred(self) -> frozenset[str]:
        """Nodes that get no jobs from here."""
        ...

    def convict(self, node: str, job_id: str, why: str) -> None:
        """Note that a result of `node` was false."""
        ...


class Jobs(Protocol):
    """The job service of this node."""

    async def submit(self, submission: JobSubmission, client: str, *, lent: bool = False) -> JobView:
        """Accept a job."""
        ...

    async def job(self, job_id: str) -> JobView:
        """Return a job with its result."""
        ...

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """Return a job once it has ended, or as it is after a time."""
        ...

    async def cancel(self, job_id: str) -> JobView:
        """End a job."""
        ...

    @property
    def keeper(self) -> Keeper:
        """What writes jobs down."""
        ...

    @property
    def changes(self) -> Changes:
        """What tells of changes."""
        ...


class Copies(Protocol):
    """Takes records of this node's jobs to the nodes that hold them."""

    async def put(self, record: JobRecord, *, linger: bool = False) -> bool | JobRecord:
        """Send a record to its other holders; with `linger` in a moment, if no newer one has come by then.

        Returns whether one has it within the time that a submission waits for that, or the record that goes before it.
        """
        ...

    async def standing(self, errand: Errand, said: bool | JobRecord) -> bool | JobRecord:
        """Return what a job of which nobody was told yet stands by, or the record of the one that goes before it."""
        ...

    def tell(self, record: JobRecord, *, hurry: bool = False) -> None:
        """Send a record when there is time, or at once."""
        ...

    def holders(self, key: str) -> Sequence[str]:
        """Return the nodes that are to hold a record."""
        ...
