"""The placer that needs to know nothing: here where there is room, else in turn. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qedge.engine.ports import PeerNode
from qedge.orchestrator.placement.model import Wish


class RoundRobin:
    """Fills `Placer`. `given` tells how many jobs each node has of this one; `room` and `able` are of this node."""

    def __init__(
        self,
        me: str,
        *,
        nodes: Callable[[], Sequence[PeerNode]],
        given: Callable[[], Mapping[str, int]],
        room: Callable[[], bool],
        able: Callable[[], bool],
    ) -> None:
        self._me = me
        self._nodes = nodes
        self._given = given
        self._room = room
        self._able = able
        self._turn = 0

    def check(self, _wish: Wish) -> None:
        """Refuse nothing: it knows nothing of the nodes."""

    def place(self, _wish: Wish, *, barred: frozenset[str] = frozenset()) -> str:
        """Return a node that is not barred, or nothing where none can run it now."""
        if self._me not in barred and self._able() and self._room():
            return self._me
        able = [node.name for node in self._nodes() if node.alive and node.has_qpu and node.name not in barred]
        if self._me not in barred and self._able():
            able.append(self._me)
        if not able:
            return ""
        given = self._given()
        least = min(given.get(name, 0) for name in able)
        best = [name for name in able if given.get(name, 0) == least]
        self._turn += 1
        return best[self._turn % len(best)]
