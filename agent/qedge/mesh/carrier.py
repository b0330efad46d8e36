"""Puts questions and answers on their way inside a session: over the direct channel where there is one, else MQTT."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

from qedge.base.clock import Clock
from qedge.bus.service import Bus
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.direct import DirectChannel, DirectStream
from qedge.mesh.parts import MAX_SENT, split
from qedge.mesh.peer_session import MQTT, PeerSession
from qedge.wire.envelope import Header, SealKind, cover, purpose_of
from qedge.wire.session import Answer, Call
from qedge.wire.topics import Channel, topic

_PART_BYTES: Final = 192 * 1024
_EXPIRY_S: Final = 60
_SEALED: Final = "sealed/1"


class Carrier:
    """Seals and sends."""

    def __init__(self, identity: NodeIdentity, *, bus: Bus, direct: DirectChannel, clock: Clock) -> None:
        self._identity = identity
        self._bus = bus
        self._direct = direct
        self._clock = clock
        self._sequence = itertools.count()
        self._messages = itertools.count(1)
        self._turns: WeakKeyDictionary[PeerSession, asyncio.Semaphore] = WeakKeyDictionary()

    async def send(self, session: PeerSession, body: Call | Answer, *, like: str = "") -> None:
        """Send; raises `bus.*` where there is no way.

        `like` is where the question came in that `body` answers: an answer goes back the same way, because who asked
        over MQTT may have lost the direct channel without this side knowing yet.
        """
        stream = self._direct.stream(session)
        if stream is not None and like in ("", stream.topic_in):
            try:
                await self._send_direct(session, stream, body)
            except OSError:
                self._direct.close(session)  # and then over MQTT, with keys of their own
            else:
                return
        await self._send_mqtt(session, body)

    async def _send_mqtt(self, session: PeerSession, body: Call | Answer) -> None:
        where = topic(self._identity.fleet, session.peer, Channel.SEALED)
        data = msgspec.msgpack.encode(body)
        if len(data) <= _PART_BYTES:
            self._bus.post(where, self._wrap(session, where, body, data), expiry_s=_EXPIRY_S)
            return
        async with self._turn(session):
            for part in split(data, _PART_BYTES, next(self._messages)):
                wrapped = self._wrap(session, where, part, msgspec.msgpack.encode(part))
                await self._bus.publish(where, wrapped, qos=1, expiry_s=_EXPIRY_S)

    async def _send_direct(self, session: PeerSession, stream: DirectStream, body: Call | Answer) -> None:
        data = msgspec.msgpack.encode(body)
        if len(data) <= stream.part_bytes:
            await stream.send(cover(SealKind.NONE, self._header(stream.topic_out, body), data))
            return
        async with self._turn(session):
            for part in split(data, stream.part_bytes, next(self._messages)):
                piece = msgspec.msgpack.encode(part)
                await stream.send(cover(SealKind.NONE, self._header(stream.topic_out, part), piece))

    def _turn(self, session: PeerSession) -> asyncio.Semaphore:
        """Return what messages in parts wait for: a peer keeps few unfinished ones."""
        return self._turns.setdefault(session, asyncio.Semaphore(MAX_SENT))

    def _wrap(self, session: PeerSession, where: str, body: msgspec.Struct, data: bytes) -> bytes:
        inner = cover(SealKind.NONE, self._header(where, body), data)
        frame = session.seal(MQTT, inner, where, self._clock.now_ns())
        outer = Header(where, self._identity.node, next(self._sequence), _SEALED, self._clock.utc_ns())
        return cover(SealKind.SEALED, outer, frame)

    def _header(self, where: str, body: msgspec.Struct) -> Header:
        return Header(where, self._identity.node, next(self._sequence), purpose_of(type(body)), self._clock.utc_ns())
