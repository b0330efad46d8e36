"""The handshakes of this node: flights in, flights out, and a session at the end.

The lower name of two is the TLS client and alone begins; the higher name asks it to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.bus.model import Incoming
from qedge.bus.service import Bus
from qedge.crypto.model import Member
from qedge.crypto.session import ExtraKey
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.peer_session import PeerSession
from qedge.mesh.ports import ExtraKeys
from qedge.mesh.shaking import Shake, ShakeBook
from qedge.wire.envelope import Header, bad_message, decode, encode, purpose_of
from qedge.wire.session import Hello, Terms
from qedge.wire.topics import Channel, topic

if TYPE_CHECKING:
    from qedge.crypto.handshake import Agreed, Handshake, HandshakeContexts

_LOG: Final = get_logger("mesh")
_EXPIRY_S: Final = 30
_HINT_NS: Final = 1_000_000_000
_SESSION_BYTES: Final = 16

Spawn = Callable[[Coroutine[None, None, None]], None]
Installed = Callable[[PeerSession, Shake], None]
Failed = Callable[[str, QedgeError, bool], None]
"""Hears of a peer with whom a handshake failed, why, and whether this node had begun it."""


class Hellos:
    """Begins and answers handshakes. `bind` says what happens with a session, and where work runs.

    `contexts` is asked when the first handshake begins: a node alone has none, and need not load the TLS library.
    """

    def __init__(
        self,
        identity: NodeIdentity,
        contexts: Callable[[], HandshakeContexts],
        *,
        bus: Bus,
        thread: CryptoThread,
        extra_keys: ExtraKeys,
        addresses: Callable[[], tuple[str, ...]],
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self._identity = identity
        self._contexts = contexts
        self._bus = bus
        self._thread = thread
        self._extra_keys = extra_keys
        self._addresses = addresses
        self._clock = clock
        self._metrics = metrics
        self._random_bytes = random_bytes
        self._sequence = itertools.count()
        self._shakes = ShakeBook()
        self._spawn: Spawn = lambda work: work.close()
        self._installed: Installed = lambda _session, _shake: None
        self._failed: Failed = lambda _peer, _error, _begun: None
        self.is_member: Callable[[str], bool] = lambda _name: False
        bus.subscribe(topic(identity.fleet, identity.node, Channel.HELLO), self._hear)

    def bind(self, spawn: Spawn, installed: Installed, failed: Failed) -> None:
        """Say where work runs, who takes a session, and who hears of failures."""
        self._spawn, self._installed, self._failed = spawn, installed, failed

    def pending(self, peer: str) -> Shake | None:
        """Return the newest handshake with a peer that is under way."""
        return self._shakes.of(peer)

    def expire(self) -> None:
        """Give up handshakes that take too long."""
        for shake in self._shakes.expire(self._clock.now_ns()):
            late = QedgeError("session.failed", f"{shake.peer} did not finish the handshake.")
            self._fail(shake.peer, late, begun=shake.is_client)

    async def open(self, peer: str) -> None:
        """Begin a handshake, or ask the peer to."""
        if self._identity.node < peer:
            await self._begin(peer)
        else:
            self._say(peer, Hello(self._random_bytes(_SESSION_BYTES), -1))

    async def renew(self, peer: str) -> None:
        """Begin a handshake for a session with a fresh extra key, if there is one; only the lower name does."""
        pending = self._shakes.of(peer)
        if self._identity.node < peer and pending is None and await self._extra_keys.offered(peer):
            await self._begin(peer)

    async def _begin(self, peer: str) -> None:
        """Send the first flight; only the lower name does."""
        keys = await self._extra_keys.offered(peer)
        handshake = self._handshake(peer, self._random_bytes(_SESSION_BYTES), self._terms(keys))
        shake = Shake(peer, handshake.session, handshake, self._clock.now_ns(), is_client=True, next_flight=1)
        self._shakes.add(shake)
        await self._step(shake, b"", 0)

    def _handshake(self, peer: str, session: bytes, terms: Terms | Callable[[Member, Terms], Terms]) -> Handshake:
        from qedge.crypto.handshake import Handshake

        return Handshake(self._contexts(), session=session, terms=terms, peer=peer, utc_ns=self._clock.utc_ns)

    def _terms(self, keys: tuple[str, ...]) -> Terms:
        identity = self._identity
        return Terms(identity.node, identity.boot_id, identity.epoch, keys, self._addresses())

    async def _hear(self, message: Incoming) -> None:
        if message.retain:
            raise bad_message("a handshake is not kept by a broker")
        header, hello = decode(message.payload, message.topic, Hello, self._clock.utc_ns())
        peer = header.sender
        if peer == self._identity.node:
            raise bad_message("it claims to come from this node")
        begins = hello.flight == (0 if peer < self._identity.node else -1)
        if begins:
            self._shakes.admit(peer, hello.session, self._clock.now_ns())
            self._spawn(self._welcome(peer, hello))
            return
        shake = self._shakes.find(peer, hello.session)
        if shake is None or shake.busy or hello.flight != shake.next_flight:
            raise QedgeError("session.unexpected", "A flight of a handshake came that was not due.")
        shake.busy = True
        shake.next_flight += 2
        self._spawn(self._step(shake, hello.data, hello.flight + 1))

    async def _welcome(self, peer: str, hello: Hello) -> None:
        """Answer a peer that begins a handshake, or asks this node to begin one."""
        if hello.flight == -1:
            pending = self._shakes.of(peer)
            if self.is_member(peer) and (pending is None or self._clock.now_ns() - pending.begun_ns > _HINT_NS):
                await self._begin(peer)
            return
        offered = await self._extra_keys.offered(peer)

        def agree(_member: Member, theirs: Terms) -> Terms:
            return self._terms(tuple(key for key in theirs.keys if key in offered)[:1])

        handshake = self._handshake(peer, hello.session, agree)
        shake = Shake(peer, hello.session, handshake, self._clock.now_ns(), is_client=False, next_flight=2, busy=True)
        self._shakes.add(shake)
        await self._step(shake, hello.data, 1)

    async def _step(self, shake: Shake, data: bytes, flight: int) -> None:
        try:
            answer = await self._thread.run(shake.handshake.step, data)
            agreed = shake.handshake.agreed
            session = await self._conclude(shake, agreed) if agreed is not None else None
        except QedgeError as error:
            self._shakes.remove(shake)
            alert = shake.handshake.alert()
            if alert:
                self._say(shake.peer, Hello(shake.session, flight, alert))
            self._fail(shake.peer, error, begun=shake.is_client)
            return
        finally:
            shake.busy = False
        if answer:
            self._say(shake.peer, Hello(shake.session, flight, answer))
        if session is not None:
            self._shakes.remove(shake)
            self._installed(session, shake)

    async def _conclude(self, shake: Shake, agreed: Agreed) -> PeerSession:
        names = agreed.own.keys if not shake.is_client else agreed.theirs.keys
        extra = await self._extra_key(shake, agreed.own.keys, names[0] if names else "")
        return PeerSession(
            shake.session,
            agreed,
            is_client=shake.is_client,
            extra=extra,
            now_ns=self._clock.now_ns(),
            utc_ns=self._clock.utc_ns(),
            restricted=extra is None and self._extra_keys.required(shake.peer),
        )

    async def _extra_key(self, shake: Shake, said: tuple[str, ...], key_id: str) -> ExtraKey | None:
        """Take the key that both sides named, and let go of those that only this side has."""
        if shake.is_client:
            refused = said[: said.index(key_id)] if key_id in said else said
            if key_id and key_id not in said:
                raise QedgeError("session.failed", f"{shake.peer} chose an extra key that was not offered.")
            if refused:
                await self._extra_keys.declined(shake.peer, refused)
        return ExtraKey(key_id, await self._extra_keys.take(shake.peer, key_id)) if key_id else None

    def _say(self, peer: str, hello: Hello) -> None:
        where = topic(self._identity.fleet, peer, Channel.HELLO)
        header = Header(where, self._identity.node, next(self._sequence), purpose_of(Hello), self._clock.utc_ns())
        try:
            self._bus.post(where, encode(header, hello), expiry_s=_EXPIRY_S)
        except QedgeError as error:
            self._failed(peer, error, False)

    def _fail(self, peer: str, error: QedgeError, *, begun: bool) -> None:
        self._metrics.add("qedge_handshakes_failed_total", (error.code,))
        _LOG.warning("session.refused", peer=peer, code=error.code, reason=error.message)
        self._failed(peer, error, begun)
