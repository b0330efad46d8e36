"""Whole key stores on real databases, joined in memory by a network that a test can break."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.qkd.keys.config import KeyStoreConfig
from qedge.qkd.keys.model import FinishedBlock
from qedge.qkd.keys.service import KeyStore
from qedge.qkd.keys.vault import Vault
from qedge.store.schema import KEY_SCHEMA
from qedge.store.store import Store
from tests.unit.qkd.keys.key_site import PROVENANCE

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


class MemoryNetwork:
    """Carries questions between nodes; `loss` of questions and as many of answers, `twice` of questions again."""

    def __init__(self, seed: int = 1) -> None:
        self.dice = random.Random(seed)
        self.loss = 0.0
        self.twice = 0.0
        self.cut: set[str] = set()
        self.served: dict[tuple[str, type[msgspec.Struct]], Callable[[str, msgspec.Struct], Awaitable[object]]] = {}

    def at(self, node: str) -> MemoryPeers:
        """Return the port of a node."""
        return MemoryPeers(self, node)


class MemoryPeers:
    """Implements `PeerKeyStore`; what travels is encoded and decoded."""

    def __init__(self, network: MemoryNetwork, node: str) -> None:
        self._network = network
        self._node = node

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask, if the network lets it through."""
        network = self._network
        serve = network.served.get((node, type(body)))
        await asyncio.sleep(0)
        if serve is None or {node, self._node} & network.cut or network.dice.random() < network.loss:
            raise QedgeError("peer.timeout", f"{node} did not answer.")
        copy = msgspec.msgpack.decode(msgspec.msgpack.encode(body), type=type(body))
        if network.dice.random() < network.twice:
            await serve(self._node, copy)
        reply = await serve(self._node, copy)
        if network.dice.random() < network.loss:
            raise QedgeError("peer.timeout", f"{node} did not answer.")
        return msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=answer)

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer questions."""
        self._network.served[self._node, request] = serve  # type: ignore[assignment]  # by its type the right one


class StoreNode:
    """One node with its key store, which can be stopped and started again on the same files."""

    def __init__(
        self, name: str, folder: Path, network: MemoryNetwork, clock: ManualClock, config: KeyStoreConfig
    ) -> None:
        self.name = name
        self.folder = folder
        self.network = network
        self.clock = clock
        self.config = config
        self.boot_id = "boot 1"
        self.vault = Vault(name.encode().ljust(32))
        self.metrics = Metrics()

    async def start(self) -> None:
        """Open the database and run."""
        self.store = Store(self.folder / f"{self.name}.sqlite3", metrics=self.metrics, schema=KEY_SCHEMA)
        self.keys = KeyStore(
            self.name,
            self.store,
            self.vault,
            self.config,
            self.network.at(self.name),
            boot_id=self.boot_id,
            clock=self.clock,
            metrics=self.metrics,
            random_bytes=os.urandom,
        )
        ready = asyncio.Event()
        self._task = asyncio.create_task(self.keys.run(ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            self.store.close()
            self._task.result()

    async def stop(self) -> None:
        """End and close the database."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.store.close()


class StoreSite:
    """Nodes `a`, `b` and, where wanted, `c` that all have links to each other."""

    def __init__(self, folder: Path, names: str = "ab", config: KeyStoreConfig | None = None) -> None:
        self.clock = ManualClock()
        self.network = MemoryNetwork()
        config = config or KeyStoreConfig(reserve_kbit=0)
        self.nodes = {name: StoreNode(name, folder, self.network, self.clock, config) for name in names}
        self.dice = random.Random(7)
        self.next: dict[str, int] = {}

    def __getitem__(self, name: str) -> KeyStore:
        return self.nodes[name].keys

    async def start(self) -> None:
        """Start all."""
        for node in self.nodes.values():
            await node.start()

    async def stop(self) -> None:
        """Stop all."""
        for node in self.nodes.values():
            with contextlib.suppress(Exception):
                await node.stop()

    async def grow(self, one: str = "a", other: str = "b", *, blocks: int = 2, size: int = 4096) -> None:
        """Add blocks to the link of two nodes at both ends, and wait until both may use them."""
        link = one + other
        await self[one].open_link(link, other)
        await self[other].open_link(link, one)
        for _ in range(blocks):
            number = self.next.get(link, 0)
            self.next[link] = number + 1
            block = FinishedBlock(link, number, self.dice.randbytes(size + 32), PROVENANCE)
            await self[one].add_block(block)
            await self[other].add_block(block)
        await self.until(lambda: self.waiting(one, link) == self.waiting(other, link) == 0)

    def waiting(self, node: str, link: str) -> int:
        """Return bits of which a node does not know that the other end has them."""
        return next(each.account.waiting for each in self[node].links() if each.link == link)

    async def until(self, condition: Callable[[], object], limit_s: float = 30.0) -> None:
        """Wait for something to be so."""
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(folder: Path, names: str = "ab", config: KeyStoreConfig | None = None) -> AsyncIterator[StoreSite]:
    """Run a site for the length of a test."""
    site = StoreSite(folder, names, config)
    await site.start()
    try:
        yield site
    finally:
        await site.stop()
