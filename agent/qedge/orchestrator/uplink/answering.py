"""The cloud's side of comparing: tells sites what it holds of the shared state, and takes in what they hand over."""

from __future__ import annotations

import contextlib
import hashlib
import itertools

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.bus.model import Incoming
from qedge.bus.service import Bus
from qedge.crypto.signed import open_signed
from qedge.mesh.crypto_thread import CryptoThread
from qedge.orchestrator.state.exchange import pack, unpack
from qedge.orchestrator.state.namespaces import Scope
from qedge.orchestrator.state.proof import peek
from qedge.orchestrator.uplink.comparing import MOST_BYTES
from qedge.orchestrator.uplink.model import UplinkIdentity
from qedge.orchestrator.uplink.ports import SharedState
from qedge.wire.topics import Channel, every_node, topic
from qedge.wire.uplink import MAX_HEADS_ABOVE, SharedAsk, SharedTold


class CloudMap:
    """Listens on the topic of comparisons."""

    def __init__(
        self, identity: UplinkIdentity, bus: Bus, state: SharedState, thread: CryptoThread, *, clock: Clock
    ) -> None:
        self._identity = identity
        self._bus = bus
        self._state = state
        self._thread = thread
        self._clock = clock
        self._sequence = itertools.count(1)
        bus.subscribe(every_node(identity.fleet, Channel.COMPARE), self._hear)

    async def _hear(self, message: Incoming) -> None:
        """Answer a member's question; raises `bus.bad_message`, `auth.*`."""
        header, asked, _ = await self._thread.run(
            open_signed, message.payload, message.topic, SharedAsk, self._identity.trust, self._clock.utc_ns()
        )
        for data in unpack(asked.load):
            with contextlib.suppress(QedgeError):  # counted by who checks; what follows may be good
                await self._take_in(header.sender, data)
        if not message.response_topic:
            return
        held = self._state.shared
        heads = held.heads_in(asked.buckets, MAX_HEADS_ABOVE)
        told = SharedTold(
            hashlib.sha3_256(message.payload).digest(),
            held.sums(),
            heads.buckets,
            heads.heads,
            pack(held.load(asked.wants), MOST_BYTES),
        )
        sign, where = self._identity.sign, message.response_topic
        payload = await self._thread.run(sign, where, told, next(self._sequence), self._clock.utc_ns())
        with contextlib.suppress(QedgeError):  # who is not answered asks again
            self._bus.respond(message, payload)

    async def _take_in(self, peer: str, data: bytes) -> None:
        """Take an entry in, and let the other sites have it."""
        scope, _, writer, _, _ = peek(data, self._identity.fleet)
        if scope is Scope.FLEET and await self._state.learn(peer, data):
            self._bus.post(topic(self._identity.fleet, writer, Channel.SHARED), data, expiry_s=60)
