"""One end of a link with its key store, its distillation and its applications, as a process that may be killed.

`python -m tests.integration.key_store_process NODE PEER FOLDER QUIET`: blocks are made from their numbers, alike at
both ends. What a master gets it writes to `NODE.master` after the answer, what a slave gets to `NODE.slave`; slaves
read of new keys in `PEER.master`. With QUIET 1 nobody asks for new keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.qkd.keys.config import KeyStoreConfig
from qedge.qkd.keys.model import DeliverableKey, FinishedBlock
from qedge.qkd.keys.service import KeyStore
from qedge.qkd.keys.wrapping import open_vault
from qedge.store.schema import KEY_SCHEMA
from qedge.store.store import Store
from qedge.wire.envelope import purpose_of
from qedge.wire.keys import BlockProvenance

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)
LINK = "ab"
BLOCK_BYTES = 6000
PROVENANCE = BlockProvenance("test", 1e-15, 1e-10, 1e-12, 1.1e-10, simulated=True)
_HEAD = struct.Struct(">IH")
_LINE_BYTES = 36 + 1 + 64 + 1


class SocketPeers:
    """Implements `PeerKeyStore` over unix sockets, a connection for each question."""

    def __init__(self, node: str, folder: Path) -> None:
        self._node = node
        self._folder = folder
        self._served: dict[str, tuple[type[msgspec.Struct], Callable[[str, msgspec.Struct], Awaitable[object]]]] = {}

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask."""
        try:
            async with asyncio.timeout(deadline_s):
                reader, writer = await asyncio.open_unix_connection(str(self._folder / f"{node}.sock"))
                with contextlib.closing(writer):
                    writer.write(_packed(body))
                    _, data = await _unpacked(reader)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            raise QedgeError("peer.unreachable", f"{node} does not answer.") from None
        if not data:
            raise QedgeError("peer.unreachable", f"{node} could not answer.")
        return msgspec.msgpack.decode(data, type=answer)

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer."""
        self._served[purpose_of(request)] = (request, serve)  # type: ignore[assignment]  # by its type the right one

    async def listen(self, peer: str) -> None:
        """Listen for the peer."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
                purpose, data = await _unpacked(reader)
                kind, serve = self._served[purpose]
                try:
                    reply = await serve(peer, msgspec.msgpack.decode(data, type=kind))
                except QedgeError:
                    writer.write(_HEAD.pack(0, 0))
                else:
                    assert isinstance(reply, msgspec.Struct)
                    writer.write(_packed(reply))
                await writer.drain()

        path = self._folder / f"{self._node}.sock"
        path.unlink(missing_ok=True)
        await asyncio.start_unix_server(answer, str(path))


def _packed(body: msgspec.Struct) -> bytes:
    purpose, data = purpose_of(type(body)).encode(), msgspec.msgpack.encode(body)
    return _HEAD.pack(len(data), len(purpose)) + purpose + data


async def _unpacked(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    size, name = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    return (await reader.readexactly(name)).decode(), await reader.readexactly(size)


async def distil(keys: KeyStore, peer: str) -> None:
    """Add a block again and again, as fast as the store takes them."""
    number = 1 + await keys.open_link(LINK, peer)
    while True:
        bits = hashlib.shake_256(number.to_bytes(8, "big")).digest(BLOCK_BYTES)
        status = keys.status(peer)
        with contextlib.suppress(QedgeError):
            if status is not None and status.account.waiting + status.deliverable_bits < 10 * 8 * BLOCK_BYTES:
                await keys.add_block(FinishedBlock(LINK, number, bits, PROVENANCE))
                number += 1
        await asyncio.sleep(0.01)


async def ask(keys: KeyStore, peer: str, log: int) -> None:
    """Be a master that asks for one key after the other."""
    while True:
        try:
            for key in await keys.reserve(peer, "master", ["slave"], 2, 256):
                os.write(log, _line(key))
        except QedgeError:
            await asyncio.sleep(0.01)


async def fetch(keys: KeyStore, source: Path, log: int, *, done: Path | None) -> None:
    """Be the slave: ask for every key that the other end's master has had; after a start for the newest again.

    With `done` all keys are asked for again, also those that came long ago, and then the file is made.
    """
    told = 0
    if done is None:
        told = max(0, os.fstat(log).st_size // _LINE_BYTES - 20)
    while True:
        lines = source.read_bytes().split(b"\n")[:-1] if source.exists() else []
        for start in range(told, len(lines), 100):
            group = lines[start : start + 100]
            await asyncio.gather(*(_fetch_one(keys, line.split()[0].decode(), log) for line in group))
        told = len(lines)
        if done is not None:
            done.touch()
        await asyncio.sleep(0.02)


async def _fetch_one(keys: KeyStore, key_id: str, log: int) -> None:
    with contextlib.suppress(QedgeError):
        for key in await keys.collect("slave", "master", [key_id]):
            os.write(log, _line(key))


def _line(key: DeliverableKey) -> bytes:
    return f"{key.key_id} {key.key.hex()}\n".encode()


async def main(node: str, peer: str, folder: Path, *, quiet: bool) -> None:
    """Run until killed; when quiet, `NODE.account` tells where the bits are."""
    clock, metrics = SystemClock(), Metrics()
    store = Store(folder / f"{node}.sqlite3", metrics=metrics, schema=KEY_SCHEMA)
    peers = SocketPeers(node, folder)
    keys = KeyStore(
        node,
        store,
        open_vault(folder / f"{node}.wrap", os.urandom, make=True),
        KeyStoreConfig(reserve_kbit=0, peer_deadline_s=1.0),
        peers,
        boot_id="boot",
        clock=clock,
        metrics=metrics,
        random_bytes=os.urandom,
    )
    logs = [
        os.open(folder / f"{node}.{role}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for role in ("master", "slave")
    ]
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(keys.run(ready.set))
        await ready.wait()
        await peers.listen(peer)
        (folder / f"{node}.up").touch()
        done = folder / f"{node}.fetched" if quiet else None
        group.create_task(fetch(keys, folder / f"{peer}.master", logs[1], done=done))
        if not quiet:
            group.create_task(distil(keys, peer))
            for _ in range(4):
                group.create_task(ask(keys, peer, logs[0]))
        async for links in keys.watch():
            if quiet and links:
                draft = folder / f"{node}.account.new"
                draft.write_bytes(msgspec.json.encode(links[0]))
                draft.rename(folder / f"{node}.account")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), quiet=sys.argv[4] == "1"))
