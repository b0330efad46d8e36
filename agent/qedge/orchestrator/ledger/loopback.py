"""Peers, with this node among them: what it asks itself never leaves it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.engine.ports import PeerNode, Peers

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


class PeersAndMe:
    """Fills `Peers`. `nodes` does not list this node."""

    def __init__(self, me: str, peers: Peers) -> None:
        self.me = me
        self._peers = peers
        self._served: dict[type[msgspec.Struct], Callable[[msgspec.Struct], Awaitable[msgspec.Struct]]] = {}

    def nodes(self) -> Sequence[PeerNode]:
        """Describe the other nodes."""
        return self._peers.nodes()

    def find(self, name: str) -> PeerNode | None:
        """Describe one of them."""
        return next((node for node in self._peers.nodes() if node.name == name), None)

    def alive(self) -> set[str]:
        """Name all that show signs of life, this node included."""
        return {self.me, *(node.name for node in self._peers.nodes() if node.alive)}

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask a node."""
        if node != self.me:
            return await self._peers.call(node, body, answer, deadline_s=deadline_s)
        said = await self._served[type(body)](body)
        if not isinstance(said, answer):
            raise QedgeError("internal.unexpected", f"{type(said).__name__} is no answer to {type(body).__name__}.")
        return said

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer every question of this type, of peers and of this node."""

        async def of_this_node(body: msgspec.Struct) -> msgspec.Struct:
            if not isinstance(body, request):
                raise QedgeError("internal.unexpected", f"{type(body).__name__} is no {request.__name__}.")
            return await serve(self.me, body)

        self._served[request] = of_this_node
        self._peers.serve(request, serve)

    def on_change(self, hook: Callable[[], None]) -> None:
        """Hear of changes among the nodes."""
        self._peers.on_change(hook)
