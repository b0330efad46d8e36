"""Sealed sessions with peers: opens them when somebody asks a peer, keeps them, and carries questions and answers.

The lower name of two is the TLS client. Whoever has something to say wants a session; the higher name asks the lower
to begin. A session lives as long as both daemons: a broker that restarts changes nothing, its keys are in memory at
both ends. A node that gets a frame it has no keys for (it was restarted) has a new session made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.model import Incoming
from qedge.bus.service import Bus
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.calls import Calls, Serve, read_answer, unreachable
from qedge.mesh.carrier import Carrier
from qedge.mesh.direct import DirectChannel
from qedge.mesh.hellos import Hellos
from qedge.mesh.peer_session import MQTT, PeerSession
from qedge.mesh.renewal import SECRECY, Renewal, secrecy
from qedge.mesh.shaking import Shake
from qedge.wire.envelope import (
    SealKind,
    bad_message,
    purpose_of,
    read_body,
    take_apart,
)
from qedge.wire.mesh import SessionView
from qedge.wire.session import Answer, Call, Part
from qedge.wire.topics import Channel, topic

_LOG: Final = get_logger("mesh")
_ATTEMPTS: Final = 3
_ATTEMPT_S: Final = 2.5
_OLD_SESSION_S: Final = 30.0
_SWEEP_S: Final = 1.0
_HINT_NS: Final = 1_000_000_000

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


class SessionService:
    """All sealed sessions of this node. `on_contact` hears of every sign of life of a peer."""

    name = "sessions"

    def __init__(
        self,
        identity: NodeIdentity,
        hellos: Hellos,
        *,
        bus: Bus,
        direct: DirectChannel,
        clock: Clock,
        metrics: Metrics,
        key_period_s: float = 60.0,
    ) -> None:
        self._identity = identity
        self._hellos = hellos
        self._renewal = Renewal(key_period_s)
        self._bus = bus
        self._direct = direct
        self._clock = clock
        self._metrics = metrics
        self._calls = Calls()
        self._carrier = Carrier(identity, bus=bus, direct=direct, clock=clock)
        self._sessions: dict[str, PeerSession] = {}
        self._old: list[tuple[int, PeerSession]] = []
        self._failures: dict[str, QedgeError] = {}
        self._openings: dict[str, asyncio.Future[PeerSession]] = {}
        self._arrivals: dict[str, asyncio.Event] = {}
        self._hinted_ns: dict[str, int] = {}
        self._group: asyncio.TaskGroup | None = None
        self._is_member: Callable[[str], bool] = lambda _name: False
        self.on_contact: Callable[[str], None] = lambda _name: None
        bus.subscribe(self._topic(identity.node, Channel.SEALED), self._hear_sealed)
        hellos.bind(self._spawn, self._install, self._fail)
        direct.bind(self._find_direct, self._take_direct, self._lost_direct)
        bus.on_session(self._new_connection)

    def set_members(self, is_member: Callable[[str], bool]) -> None:
        """Say which names are members of the fleet: nobody else gets a session."""
        self._is_member = self._hellos.is_member = is_member

    def serve(self, request: type[Q], serve: Serve[Q], *, bootstrap: bool = False) -> None:
        """Answer every question of this type that a member asks inside a session.

        `bootstrap`: it is needed to come to an extra key, and may be asked before there is one. All nodes serve the
        same questions, so what may be asked is known from what is answered.
        """
        self._calls.serve(request, serve, bootstrap=bootstrap)

    def view(self, peer: str) -> SessionView:
        """Describe the session with a peer."""
        session = self._sessions.get(peer)
        if session is None:
            return SessionView("opening" if peer in self._openings else "none")
        return session.view("direct" if self._direct.stream(session) is not None else MQTT)

    def forget(self, peer: str, why: str) -> None:
        """Close the session with a peer that is gone, was restarted or has lost its place in the fleet."""
        session = self._sessions.pop(peer, None)
        self._old = [each for each in self._old if each[1].peer != peer]
        self._failures.pop(peer, None)
        if session is not None:
            self._direct.close(session)
            self._gauge()
            _LOG.info("session.closed", peer=peer, reason=why)
        self._calls.give_up(peer, why)

    def restarted(self, peer: str, epoch: int) -> None:
        """Close the session with an earlier run of a peer that now speaks with `epoch`."""
        session = self._sessions.get(peer)
        if session is not None and session.theirs.epoch < epoch:
            self.forget(peer, "it was restarted")

    async def call(self, peer: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask `peer` inside a session, which is opened where there is none.

        Raises `peer.unknown`, `peer.unreachable`, `peer.timeout`, `session.extra_key_missing`, `auth.*`,
        `crypto.refused_algorithm`, or the error with which the peer answered.
        """
        if peer == self._identity.node or not self._is_member(peer):
            raise QedgeError(
                "peer.unknown", f"No peer of this fleet is named {peer!r}.", fix="`qedge peers` lists them."
            )
        try:
            async with asyncio.timeout(deadline_s):
                session = await self._session(peer)
                self._calls.check(peer, purpose_of(type(body)), restricted=session.restricted)
                call, waiting = self._calls.ask(peer, body, deadline_s)
                try:
                    await self._carrier.send(session, call)
                    return read_answer(await waiting, answer)
                finally:
                    self._calls.forget(call)
        except TimeoutError:
            raise QedgeError(
                "peer.timeout", f"{peer} did not answer within {deadline_s:g} s.", fix="Try again."
            ) from None

    async def export(self, peer: str, label: str, session_id: bytes = b"") -> tuple[bytes, bytes]:
        """Return id and secret for the purpose `label` of the session with a peer, which is opened where there is none.

        With `session_id` that session is meant, also where it was replaced a moment ago; raises `session.unknown`.
        """
        if not session_id:
            session = await self._session(peer)
            return session.id, session.export(label)
        known = (self._sessions.get(peer), *(old for _, old in self._old if old.peer == peer))
        for each in known:
            if each is not None and each.id == session_id:
                return each.id, each.export(label)
        raise QedgeError("session.unknown", f"The session that {peer} speaks of is not known here.", fix="Try again.")

    async def run(self, ready: Ready) -> None:
        """Serve until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._direct.start(group)
                ready()
                try:
                    while True:
                        await asyncio.sleep(_SWEEP_S)
                        self._sweep()
                finally:
                    self._group = None  # whatever ends from here on begins nothing new
        finally:
            for peer in list(self._sessions):
                self.forget(peer, "this node stops")

    def _sweep(self) -> None:
        now_ns = self._clock.now_ns()
        self._hellos.expire()
        self._old = [each for each in self._old if each[0] > now_ns]
        for session in self._sessions.values():
            if self._renewal.is_due(session, now_ns):
                self._spawn(self._hellos.renew(session.peer))

    # Opening

    async def _session(self, peer: str) -> PeerSession:
        session = self._sessions.get(peer)
        if session is not None:
            return session
        opening = self._openings.get(peer)
        if opening is None:
            opening = asyncio.get_running_loop().create_future()
            opening.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._spawn(self._open(peer, opening))
            self._openings[peer] = opening
        return await asyncio.shield(opening)

    async def _open(self, peer: str, opening: asyncio.Future[PeerSession]) -> None:
        try:
            opening.set_result(await self._try_to_open(peer))
        except QedgeError as error:
            self._metrics.add("qedge_sessions_failed_total", (error.code,))
            opening.set_exception(error)
        finally:
            self._openings.pop(peer, None)
            if not opening.done():
                # not cancelled: that would end the tasks of other rooms that wait for it, and nobody would start them
                opening.set_exception(unreachable(peer, "this node stops"))

    async def _try_to_open(self, peer: str) -> PeerSession:
        self._failures.pop(peer, None)
        arrival = self._arrivals.setdefault(peer, asyncio.Event())
        arrival.clear()
        try:
            for _ in range(_ATTEMPTS):
                await self._hellos.open(peer)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_ATTEMPT_S):
                        await arrival.wait()
                if peer in self._sessions:
                    return self._sessions[peer]
                failure = self._failures.get(peer)
                if failure is not None and failure.code != "session.failed":
                    raise failure
                arrival.clear()
            raise self._failures.get(peer) or unreachable(peer, "it does not answer the handshake")
        finally:
            self._arrivals.pop(peer, None)

    def _install(self, session: PeerSession, shake: Shake) -> None:
        before = self._sessions.get(session.peer)
        now_ns = self._clock.now_ns()
        if before is not None:
            self._old.append((now_ns + round(_OLD_SESSION_S * 1e9), before))
            self._direct.close(before)
            session.succeed(before)
            if before.has_extra and not session.has_extra:
                _LOG.warning("session.extra_key_lost", peer=session.peer, restricted=session.restricted)
        self._sessions[session.peer] = session
        self._failures.pop(session.peer, None)
        self._gauge()
        view = session.view(MQTT)
        self._metrics.add("qedge_sessions_opened_total", (str(view.suite), str(view.extra_key).lower()))
        self._metrics.observe("qedge_session_setup_seconds", (now_ns - shake.begun_ns) / 1e9)
        _LOG.info("session.opened", peer=session.peer, suite=view.suite, group=view.group, extra_key=view.extra_key)
        self.on_contact(session.peer)
        arrival = self._arrivals.get(session.peer)
        if arrival is not None:
            arrival.set()
        for where, frame in shake.early:
            try:
                self._take(session, MQTT, frame, where)
            except QedgeError as error:
                self._bus.reject(error.code)
        self._direct.keep(session)
        if before is not None and self._calls.outstanding(session.peer):
            self._spawn(self._ask_again(session))  # what was under way on the old direct channel may be lost

    def _fail(self, peer: str, error: QedgeError, begun: bool) -> None:
        # What a handshake that somebody else began in the peer's name came to says nothing about the peer.
        if begun or error.code == "bus.unavailable":
            self._failures[peer] = error
            arrival = self._arrivals.get(peer)
            if arrival is not None:
                arrival.set()

    # Frames

    async def _hear_sealed(self, message: Incoming) -> None:
        envelope = take_apart(message.payload)
        header = envelope.header
        if envelope.kind is not SealKind.SEALED or header.topic != message.topic or message.retain:
            raise bad_message("it is not sealed for here")
        peer = header.sender
        candidates = [session for _, session in self._old if session.peer == peer]
        current = self._sessions.get(peer)
        if current is not None:
            candidates.insert(0, current)
        for session in candidates:
            try:
                self._take(session, MQTT, envelope.body, message.topic)
            except QedgeError as error:
                if error.code != "session.unknown":
                    raise
            else:
                return
        shake = self._hellos.pending(peer)
        if shake is not None:
            shake.hold(message.topic, envelope.body)
            return
        self._ask_anew(peer)
        raise QedgeError("session.unknown", "A frame came of a session that is not known here.")

    def _ask_anew(self, peer: str) -> None:
        """A peer that seals with keys unknown here may not know that this node was restarted: make a new session."""
        now_ns = self._clock.now_ns()
        if self._is_member(peer) and now_ns - self._hinted_ns.get(peer, -_HINT_NS) >= _HINT_NS:
            self._hinted_ns[peer] = now_ns
            self._spawn(self._hellos.open(peer))

    def _take(self, session: PeerSession, channel: str, frame: bytes, where: str) -> None:
        """Open a frame and act on it; raises `session.*`, `bus.bad_message`."""
        self._act(session, session.open(channel, frame, where), where)

    def _act(self, session: PeerSession, data: bytes, where: str) -> None:
        self.on_contact(session.peer)
        envelope = take_apart(data)
        if envelope.kind is not SealKind.NONE or envelope.header.sender != session.peer:
            raise bad_message("it speaks for another node")
        utc_ns = self._clock.utc_ns()
        purpose = envelope.header.purpose
        if purpose == purpose_of(Part):
            whole = session.assembler.take(read_body(envelope, where, Part, utc_ns))
            if whole is not None:
                self._act_whole(session, whole, where)
        else:
            self._act_whole(session, envelope.body, where)

    def _act_whole(self, session: PeerSession, body: bytes, where: str) -> None:
        try:
            content = msgspec.msgpack.decode(body, type=Call | Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise bad_message(f"it cannot be decoded ({error})") from error
        if isinstance(content, Call):
            if session.answered.is_new(content.id):
                self._spawn(self._reply(session, content, where))
            elif (known := session.answered.find(content.id)) is not None:
                self._spawn(self._carrier.send(session, known, like=where))
        else:
            self._calls.answered(session.peer, content)

    async def _reply(self, session: PeerSession, call: Call, where: str) -> None:
        answer = await self._calls.answer(session.peer, call, restricted=session.restricted)
        session.answered.keep(answer)
        newest = self._sessions.get(session.peer, session)
        with contextlib.suppress(QedgeError):  # who asked notices that no answer comes
            if newest is not session:
                self._calls.check(session.peer, call.purpose, restricted=newest.restricted)
            await self._carrier.send(newest, answer, like=where)

    # The direct channel

    def _find_direct(self, key_id: int) -> PeerSession | None:
        return next((each for each in self._sessions.values() if key_id in each.key_ids("direct")), None)

    def _lost_direct(self, session: PeerSession) -> None:
        """What was under way on a stream that broke may be lost: ask again, which the other side recognises."""
        if self._sessions.get(session.peer) is session and self._group is not None:
            self._spawn(self._ask_again(session))

    async def _ask_again(self, session: PeerSession) -> None:
        for call in self._calls.outstanding(session.peer):
            if self._calls.still_fits(session.peer, call, restricted=session.restricted):
                await self._carrier.send(session, call)

    async def _new_connection(self, _session_present: bool) -> None:
        """A broker that was restarted has lost what it had acknowledged: ask again what is not answered."""
        for session in list(self._sessions.values()):
            if self._direct.stream(session) is None and self._group is not None:
                self._spawn(self._ask_again(session))

    def _take_direct(self, session: PeerSession, data: bytes, where: str) -> None:
        self._act(session, data, where)

    # Small things

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._group is None:
            work.close()
            raise QedgeError("internal.stopping", "The node is starting or stopping.", fix="Try again soon.")
        self._group.create_task(self._guard(work))

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except QedgeError as error:
            self._bus.reject(error.code)
            _LOG.debug("bus.rejected", topic="", reason=str(error))
        except Exception as error:  # noqa: BLE001 - a fault in what one peer began must not end the sessions with all
            self._bus.reject("handler_failed")
            _LOG.error("bus.rejected", topic="", reason=f"{type(error).__name__}: {error}")

    def _gauge(self) -> None:
        self._metrics.set("qedge_sessions_open", len(self._sessions))
        for kind in SECRECY:
            count = sum(secrecy(session) == kind for session in self._sessions.values())
            self._metrics.set("qedge_sessions_by_secrecy", count, (kind,))

    def _topic(self, node: str, channel: Channel) -> str:
        return topic(self._identity.fleet, node, channel)
