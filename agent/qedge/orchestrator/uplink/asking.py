"""Questions to the nodes of the cloud, whichever of them answers first, in signed envelopes both ways."""

from __future__ import annotations

import hashlib
import itertools
from typing import Final, Protocol, TypeVar

import msgspec

from qedge.base.clock import Clock
from qedge.bus.service import Bus
from qedge.crypto.signed import open_signed
from qedge.mesh.crypto_thread import CryptoThread
from qedge.orchestrator.uplink.model import UplinkIdentity
from qedge.wire.envelope import bad_message
from qedge.wire.topics import Channel, topic
from qedge.wire.uplink import ResultsHeard, SharedTold

_ANSWER_S: Final = 10.0
"""How long a node of the cloud may take, also to write results down; after that they are said again."""

A = TypeVar("A", ResultsHeard, SharedTold)


class Asks(Protocol):
    """Whom the cloud can be asked through."""

    async def ask(self, channel: Channel, body: msgspec.Struct, answer: type[A]) -> A:
        """Return what a node of the cloud answers; raises `bus.*`, `auth.*`."""
        ...


class CloudQuestions:
    """Asks over the uplink. An answer counts for the digest of the question in it, and the signature of a member."""

    def __init__(self, identity: UplinkIdentity, uplink: Bus, thread: CryptoThread, clock: Clock) -> None:
        self._identity = identity
        self._uplink = uplink
        self._thread = thread
        self._clock = clock
        self._sequence = itertools.count(1)

    async def ask(self, channel: Channel, body: msgspec.Struct, answer: type[A]) -> A:
        """Return what a node of the cloud answers; raises `bus.*`, `auth.*`."""
        me = self._identity
        where, back = topic(me.fleet, me.node, channel), topic(me.fleet, me.node, Channel.REPLY)
        payload = await self._thread.run(me.sign, where, body, next(self._sequence), self._clock.utc_ns())
        said = await self._uplink.request(where, payload, deadline_s=_ANSWER_S)
        _, told, _ = await self._thread.run(open_signed, said.payload, back, answer, me.trust, self._clock.utc_ns())
        if told.digest != hashlib.sha3_256(payload).digest():
            raise bad_message("it answers another one")
        return told
