"""What the HTTP interface needs of the shared state; `qedge.daemon.shared_state` fills it."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.state import StatePut, StateRow, StateRows


class StatePort(Protocol):
    """The state that nodes share, as this node holds it."""

    def listing(self, namespace: str) -> StateRows:
        """Return what is held, of one namespace or of all; raises `state.not_found`."""
        ...

    async def changes(self, namespace: str, since: int, wait_s: float) -> StateRows:
        """Return what came after change `since`, as soon as something did, at the latest after `wait_s` seconds."""
        ...

    def find(self, namespace: str, key: str) -> StateRows:
        """Return all entries of a key; raises `state.not_found`."""
        ...

    async def put(self, namespace: str, key: str, change: StatePut) -> StateRow:
        """Say something under a key; raises `state.*`."""
        ...

    async def delete(self, namespace: str, key: str) -> StateRow:
        """Delete what stands under a key; raises `state.*`."""
        ...


class StateNode(Protocol):
    """The node, as far as this is about it."""

    @property
    def state(self) -> StatePort:
        """What the nodes share."""
        ...
