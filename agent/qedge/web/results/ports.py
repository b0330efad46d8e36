"""What the web needs to know about results of other nodes."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.receipts import Receipt
from qedge.wire.standing import Standing


class ResultsPort(Protocol):
    """Keeps the standing of every node whose results came here."""

    def standings(self) -> tuple[Standing, ...]:
        """Return what is known of every node, by name."""
        ...

    async def receipt(self, job_id: str) -> Receipt | None:
        """Return what its runner signed for the result of a job, if that is here."""
        ...

    def pardon(self, node: str) -> Standing:
        """Give a node jobs again; raises `job.no_node`."""
        ...


class ResultsNode(Protocol):
    """The node, as far as this is about it."""

    @property
    def results(self) -> ResultsPort:
        """What results of other nodes have been worth."""
        ...
