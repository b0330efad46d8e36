"""What the web needs to know about results of other nodes."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.standing import Standing


class ResultsPort(Protocol):
    """Keeps the standing of every node whose results came here."""

    def standings(self) -> tuple[Standing, ...]:
        """Return what is known of every node, by name."""
        ...

    def pardon(self, node: str) -> Standing:
        """Give a node jobs again; raises `job.no_node`."""
        ...
