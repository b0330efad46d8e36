"""What the QKD links need from the rest of the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from qedge.wire.node import LinkView
from qedge.workers.model import Msg
from qedge.workers.process import WorkerProcess

if TYPE_CHECKING:  # of links that distil alone
    from qedge.wire.qkd import Baseline, FinishedBlock

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


class TransceiverPort(Protocol):
    """One end of a fibre behind its worker; answers are checked again here, whoever gave them."""

    @property
    def name(self) -> str:
        """Name of the driver instance."""
        ...

    @property
    def is_up(self) -> bool:
        """Whether it may be called now."""
        ...

    async def call(self, method: str, args: Mapping[str, Msg], *, deadline_s: float) -> Msg:
        """Call `read_block`, `preparations` or `release` of the driver; raises `QedgeError`."""
        ...


class Link(Protocol):
    """A link as operators and programs see it."""

    def view(self) -> LinkView:
        """Describe it."""
        ...

    async def measure(self, sifted: int) -> LinkView:
        """Measure about `sifted` bits, and describe it; raises `QedgeError`."""
        ...


class LinkDevice(Protocol):
    """A transceiver whose worker distils."""

    @property
    def name(self) -> str:
        """Name of the driver instance."""
        ...

    @property
    def is_up(self) -> bool:
        """Whether it may be used now."""
        ...

    def process(self) -> WorkerProcess:
        """Return its worker; raises `worker.unavailable`, `driver.locked`, `driver.not_found`."""
        ...

    async def call(self, method: str, args: Mapping[str, Msg], *, deadline_s: float) -> Msg:
        """Call the worker; raises `QedgeError`."""
        ...


class LinkPeers(Protocol):
    """The sessions with other nodes."""

    @property
    def me(self) -> str:
        """Name of this node."""
        ...

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask a node inside its session; raises `QedgeError`."""
        ...

    async def export(self, node: str, label: str, session_id: bytes = b"") -> tuple[bytes, bytes]:
        """Return id and secret, for the purpose `label`, of the session with a node; raises `QedgeError`."""
        ...

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer questions of peers."""
        ...


class Baselines(Protocol):
    """Keeps what links have learned of their counts, over restarts."""

    async def load(self, link: str) -> Baseline | None:
        """Return what was learned of a link; raises `QedgeError` where that cannot be read."""
        ...

    async def save(self, link: str, baseline: Baseline) -> None:
        """Keep what was learned; raises `QedgeError` where it cannot be kept."""
        ...


class KeySink(Protocol):
    """Takes finished blocks: the key store."""

    async def open(self, link: str, peer: str) -> int:
        """Make a link to a node known; returns the number of its newest block, −1 for none. Raises `QedgeError`."""
        ...

    def has_room(self, link: str) -> bool:
        """Say whether the link may add key: one that is full waits until some is used."""
        ...

    async def add_block(self, block: FinishedBlock) -> None:
        """Keep a block; it is safe when this returns. Raises `QedgeError` where it cannot be kept."""
        ...
