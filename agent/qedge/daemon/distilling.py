"""Links that distil, put into the daemon. Loaded only where a link does: what measures a link needs none of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.daemon.adapters import NamedDriver
from qedge.daemon.peers import Tools
from qedge.mesh.sessions import SessionService
from qedge.qkd.config import LinkConfig
from qedge.qkd.distillation.local import LocalLink
from qedge.qkd.distillation.order import LINK_HOST
from qedge.qkd.distillation.service import LinkDesk, RemoteLink
from qedge.qkd.keys.model import FinishedBlock as StoredBlock
from qedge.qkd.keys.service import KeyStore
from qedge.store.store import Store
from qedge.wire.keys import BlockProvenance
from qedge.wire.qkd import Baseline, FinishedBlock
from qedge.workers.driver_service import DriverService
from qedge.workers.process import WorkerProcess

__all__ = ["LINK_HOST", "DistilledLinks"]

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


class LinkTransceiver(NamedDriver):
    """Fills `LinkDevice` of the QKD room."""

    def process(self) -> WorkerProcess:
        """Return the driver's worker; raises `driver.not_found` where the driver is gone."""
        driver = self._drivers.get(self._name)
        if driver is None:
            raise QedgeError("driver.not_found", f"The driver {self._name} is not configured any more.")
        return driver.process()


class SessionPeers:
    """Fills `LinkPeers` of the QKD room from the sessions of this node."""

    def __init__(self, me: str, sessions: SessionService) -> None:
        self.me = me
        self._sessions = sessions

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask a node inside a session."""
        return await self._sessions.call(node, body, answer, deadline_s=deadline_s)

    async def export(self, node: str, label: str, session_id: bytes = b"") -> tuple[bytes, bytes]:
        """Return id and exported secret of the session with a node."""
        return await self._sessions.export(node, label, session_id)

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer questions of peers."""
        # this leads to the keys that sessions may want, so it may be said before there is one
        self._sessions.serve(request, serve, bootstrap=True)


class StoreSink:
    """Fills `KeySink` of the QKD room from the key store of this node."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    async def open(self, link: str, peer: str) -> int:
        """Make a link known to the store."""
        return await self._store.open_link(link, peer)

    def has_room(self, link: str) -> bool:
        """Ask the store."""
        return not any(status.full for status in self._store.links() if status.link == link)

    async def add_block(self, block: FinishedBlock) -> None:
        """Keep a block."""
        said = block.provenance
        kept = BlockProvenance(
            said.protocol,
            said.eps_cor,
            said.eps_sec,
            said.eps_auth,
            said.eps_total,
            said.simulated,
            said.qber,
            said.sifted_bits,
            said.leaked_bits,
            said.created_utc_ns,
        )
        await self._store.add_block(StoredBlock(block.link, block.block_id, block.bits, kept))


class KeptBaselines:
    """Fills `Baselines` of the QKD room from the database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self, link: str) -> Baseline | None:
        """Return what was learned of a link; raises `store.unavailable` where it is not what was kept."""
        text = await self._store.get_meta(f"qkd.{link}.baseline")
        try:
            return msgspec.json.decode(text, type=Baseline) if text else None
        except msgspec.DecodeError as error:
            raise QedgeError("store.unavailable", f"What {link} had learned cannot be read: {error}.") from error

    async def save(self, link: str, baseline: Baseline) -> None:
        """Keep what was learned."""
        await self._store.set_meta(f"qkd.{link}.baseline", msgspec.json.encode(baseline).decode())


class NoReader:
    """Fills `KeySink` for links with both ends on this box: nobody elsewhere holds their key, so nobody gets it."""

    async def open(self, _link: str, _peer: str) -> int:
        """Know nothing."""
        return -1

    def has_room(self, _link: str) -> bool:
        """Take anything."""
        return True

    async def add_block(self, _block: FinishedBlock) -> None:
        """Forget a block; metrics and views have counted it."""


class DistilledLinks:
    """Makes links; what those to other nodes distil goes to the key store."""

    def __init__(
        self, tools: Tools, drivers: Mapping[str, DriverService], sessions: SessionService, keys: KeyStore
    ) -> None:
        self._tools = tools
        self._drivers = drivers
        self._keys = keys
        self._peers = SessionPeers(tools.identity.node, sessions)
        self._desk = LinkDesk(self._peers)

    def make(self, name: str, link: LinkConfig) -> RemoteLink | LocalLink:
        """Make a link to another node, or one with both ends here."""
        tools = self._tools
        ends = [LinkTransceiver(each, self._drivers) for each in link.transceivers]
        if not link.peer:
            return LocalLink(
                name,
                link,
                ends[0],
                ends[1],
                NoReader(),
                KeptBaselines(tools.store),
                clock=tools.clock,
                metrics=tools.metrics,
                random_bytes=tools.random_bytes,
            )
        remote = RemoteLink(
            name,
            link,
            ends[0],
            self._peers,
            StoreSink(self._keys),
            KeptBaselines(tools.store),
            clock=tools.clock,
            metrics=tools.metrics,
            random_bytes=tools.random_bytes,
        )
        self._desk.add(remote)
        return remote
