"""What the key store needs from the rest of the node, and what it offers to those who deliver keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from qedge.qkd.keys.model import ANY, Constraints, DeliverableKey, FinishedBlock, StoredStatus, Usage

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


class PeerKeyStore(Protocol):
    """The key stores of other nodes, reached inside sealed sessions."""

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask the store of `node`; raises `peer.*` or the error with which it answered."""
        ...

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer the stores of other nodes."""
        ...


class Keys(Protocol):
    """The key store as distillation and delivery see it."""

    async def open_link(self, link: str, peer: str) -> int:
        """Make a link known; returns the number of its newest block, −1 for none. Raises `qkd.bad_block`."""
        ...

    async def add_block(self, block: FinishedBlock) -> None:
        """Take a finished block of an open link; raises `qkd.bad_block`, `qkd.store_full`, `store.*`."""
        ...

    async def reserve(
        self,
        peer_node: str,
        master_sae: str,
        slave_saes: Sequence[str],
        number: int,
        size_bits: int,
        constraints: Constraints = ANY,
        elsewhere: Mapping[str, Sequence[str]] | None = None,
    ) -> list[DeliverableKey]:
        """Give keys to a master, once all nodes of its slaves have their copies on the disk.

        `peer_node` is the node of `slave_saes`, and may be this one; `elsewhere` maps further nodes to slaves there.
        Raises `qkd.no_link`, `qkd.too_few_bits`, `qkd.unmeetable`, `qkd.bad_key_size`, `qkd.out_of_step`, `peer.*`,
        `store.*`; whatever it raises, nobody gets these keys.
        """
        ...

    async def collect(self, slave_sae: str, master_sae: str, key_ids: Sequence[str]) -> list[DeliverableKey]:
        """Give copies to a slave, all or none, each once; raises `qkd.key_not_yours`, `qkd.key_not_found`."""
        ...

    def status(self, peer_node: str) -> StoredStatus | None:
        """Describe the link to a node from which its next keys come; None: no link leads there."""
        ...

    async def reach(self, peer_node: str, num_bytes: int = 32) -> tuple[StoredStatus, int] | None:
        """Describe the way to a node to which no link leads, and how many nodes are in between; None: there is none."""
        ...

    def links(self) -> tuple[StoredStatus, ...]:
        """Describe all links."""
        ...

    async def usage(self) -> list[Usage]:
        """Say what every consumer had."""
        ...

    def watch(self) -> AsyncIterator[tuple[StoredStatus, ...]]:
        """Give the state of all links now and after each change; a slow reader misses some of them."""
        ...
