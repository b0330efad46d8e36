"""Bus and sealed sessions of one node without the rest of a daemon, so that sessions can be opened again and again."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from qedge.base.log import LogConfig, configure
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.config import BusConfig
from qedge.bus.endpoint import external_endpoint
from qedge.bus.service import Bus
from qedge.crypto.config import CryptoConfig
from qedge.crypto.handshake import HandshakeContexts
from qedge.crypto.keys import SigningKey
from qedge.crypto.registry import usable_suites
from qedge.crypto.trust import Trust
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.direct import DirectChannel
from qedge.mesh.hellos import Hellos
from qedge.mesh.sessions import SessionService
from qedge.wire.mesh import Ping, Pong
from qedge.wire.topics import Channel, topic
from qedge.wire.trust import Anchor


@dataclass(frozen=True, slots=True)
class Place:
    """All that a process needs to speak as a member; goes to it over a pipe."""

    node: str
    port: int
    anchor: Anchor
    algorithm: str
    seed: bytes
    chain: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"<place of {self.node}>"


class NoKeys:
    """No extra keys."""

    async def offered(self, _peer: str) -> tuple[str, ...]:
        """Offer none."""
        return ()

    async def take(self, _peer: str, key_id: str) -> bytes:
        """Never called: none was offered."""
        raise LookupError(key_id)

    def required(self, _peer: str) -> bool:
        """Say that sessions do without."""
        return False


@asynccontextmanager
async def sessions_of(place: Place) -> AsyncIterator[SessionService]:
    """Run bus and sessions of one node, with the direct channel off; answers pings."""
    clock, metrics, fleet = SystemClock(), Metrics(), place.anchor.fleet
    config = BusConfig(url=f"mqtt://127.0.0.1:{place.port}")
    bus = Bus(
        config,
        lambda: external_endpoint(config),
        client_id=f"bench-{place.node}",
        reply_topic=topic(fleet, place.node, Channel.REPLY),
        clock=clock,
        metrics=metrics,
        random_bytes=os.urandom,
        uniform=random.random,
    )
    me = NodeIdentity(fleet, place.node, "0", "boot", 1, standalone=False)
    key = SigningKey.from_seed(place.algorithm, place.seed)
    suites = usable_suites(CryptoConfig())
    thread = CryptoThread()
    contexts = HandshakeContexts(key, place.chain, Trust(place.anchor, fleet), suites)
    hellos = Hellos(
        me,
        lambda: contexts,
        bus=bus,
        thread=thread,
        extra_keys=NoKeys(),
        addresses=tuple,
        clock=clock,
        metrics=metrics,
        random_bytes=os.urandom,
    )
    direct = DirectChannel(place.node, "off", near_host=lambda: "127.0.0.1", clock=clock, metrics=metrics)
    sessions = SessionService(me, hellos, bus=bus, direct=direct, clock=clock, metrics=metrics)
    sessions.set_members(lambda _name: True)

    async def answer(_peer: str, ping: Ping) -> Pong:
        return Pong(ping.nonce)

    sessions.serve(Ping, answer)
    connected = asyncio.Event()

    async def note(_session_present: bool) -> None:
        connected.set()

    bus.on_session(note)
    tasks = [asyncio.create_task(service.run(lambda: None)) for service in (bus, sessions)]
    try:
        await connected.wait()
        yield sessions
    finally:
        for task in reversed(tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        thread.close()


def serve(place: Place) -> None:
    """Be a node until the process is ended."""
    configure(LogConfig(level="error"))

    async def forever() -> None:
        async with sessions_of(place):
            await asyncio.Event().wait()

    asyncio.run(forever())
