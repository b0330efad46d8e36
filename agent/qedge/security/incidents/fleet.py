"""Boards of incidents on the bus: signed by their node, retained, and believed only as newer than the last."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

from qedge.base.clock import Clock
from qedge.bus.model import Incoming
from qedge.bus.service import Bus
from qedge.crypto.keys import SigningKey
from qedge.crypto.signed import ShowsChain, open_signed, sign_envelope
from qedge.crypto.trust import Trust
from qedge.mesh.crypto_thread import CryptoThread
from qedge.wire.envelope import Header, bad_message, purpose_of
from qedge.wire.incidents import IncidentBoard
from qedge.wire.topics import Channel, every_node, parse_topic, topic

_PURPOSE: Final = purpose_of(IncidentBoard)


class FleetHerald:
    """Implements `Herald` over the bus. What is no good board of its sender raises, and the bus counts it."""

    def __init__(
        self,
        fleet: str,
        node: str,
        key: SigningKey,
        chain: ShowsChain,
        trust: Trust,
        *,
        bus: Bus,
        thread: CryptoThread,
        clock: Clock,
    ) -> None:
        self._fleet = fleet
        self._node = node
        self._key = key
        self._chain = chain
        self._trust = trust
        self._bus = bus
        self._thread = thread
        self._clock = clock
        self._sequence = itertools.count()
        self._heard: Callable[[IncidentBoard], None] = lambda _board: None
        self._lost: Callable[[], None] = lambda: None
        bus.on_session(self._connected)
        bus.subscribe(every_node(fleet, Channel.INCIDENTS), self._hear)

    def listen(self, heard: Callable[[IncidentBoard], None], lost: Callable[[], None]) -> None:
        """Call `heard` with every board of another node whose signature is good, `lost` after every connection."""
        self._heard, self._lost = heard, lost

    async def publish(self, board: IncidentBoard) -> None:
        """Sign and publish the board of this node; raises `bus.*`."""
        where = topic(self._fleet, self._node, Channel.INCIDENTS)
        header = Header(where, self._node, next(self._sequence), _PURPOSE, self._clock.utc_ns())
        message = await self._thread.run(sign_envelope, header, board, self._key, self._chain)
        await self._bus.publish(where, message, qos=1, retain=True)

    async def _connected(self, _session_present: bool) -> None:
        # Even a broker that kept the session may have lost what it retained.
        self._lost()

    async def _hear(self, message: Incoming) -> None:
        parsed = parse_topic(message.topic)
        if parsed is None:
            raise bad_message("its topic is none of ours")
        node = parsed[1]
        if node == self._node:
            return
        if not message.payload:
            raise bad_message("nobody can delete the incidents of a node")
        utc_ns = self._clock.utc_ns()
        _, board, member = await self._thread.run(
            open_signed, message.payload, message.topic, IncidentBoard, self._trust, utc_ns
        )
        # A member signs for itself alone: the name on the certificate, on the board and in the topic are one.
        if not node == board.node == member.subject.name:
            raise bad_message("it speaks for another node")
        self._heard(board)
