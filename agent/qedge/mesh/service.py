"""The mesh: this node speaks for itself, listens to its peers, and asks those that fall silent."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes, is_name
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.model import Incoming
from qedge.bus.service import Bus
from qedge.crypto.keys import SigningKey
from qedge.crypto.model import Member
from qedge.crypto.signed import ShowsChain, chain_now, open_signed
from qedge.crypto.trust import Trust
from qedge.mesh.announcer import Announcer
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.config import MeshConfig
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.host_watch import HostWatch
from qedge.mesh.membership import Membership
from qedge.mesh.model import (
    DuplicatePeer,
    DuplicateSelf,
    Effect,
    Ignored,
    PeerChanged,
    PeerDead,
    PeerForgotten,
    PeerLeft,
    PeerRevoked,
    PeerSuspect,
    PeerUp,
    Probe,
    Rebirth,
)
from qedge.mesh.ports import Capabilities, KeepRevocations
from qedge.mesh.revocations import Revocations
from qedge.mesh.sessions import SessionService
from qedge.wire.envelope import bad_message, decode
from qedge.wire.mesh import Birth, Lost, PeerList, PeerState, PeerView, Ping, Pong, Pulse
from qedge.wire.node import PingView
from qedge.wire.topics import Channel, every_node, parse_topic, topic
from qedge.wire.trust import AUTHORITY, RevocationNotice

_LOG: Final = get_logger("mesh")
_TICK_S: Final = 0.1
_PROBE_LIMIT_S: Final = 0.6
_REPEAT_REVOCATIONS_S: Final = 3.0


class MeshService:
    """This node among its peers. `on_peers` hears of every change; `keep_revocations` writes the newest list down."""

    name = "mesh"

    def __init__(
        self,
        identity: NodeIdentity,
        key: SigningKey,
        chain: ShowsChain,
        trust: Trust,
        config: MeshConfig,
        *,
        host: HostWatch,
        bus: Bus,
        sessions: SessionService,
        thread: CryptoThread,
        capabilities: Capabilities,
        keep_revocations: KeepRevocations,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self._identity = identity
        self._trust = trust
        self.host = host
        self._bus = bus
        self._sessions = sessions
        self._thread = thread
        self._clock = clock
        self._metrics = metrics
        self._chain = chain
        self._revocations = Revocations(identity, trust, bus=bus, thread=thread, keep=keep_revocations, clock=clock)
        self.duplicate = False
        """Another box speaks under this node's name."""

        self.is_elsewhere: Callable[[str], bool] = lambda _name: False
        """Says of a node whose heart does not reach this site that one may talk with it all the same."""

        self.announcer = Announcer(
            identity,
            key,
            chain,
            bus=bus,
            thread=thread,
            capabilities=capabilities,
            clock=clock,
            random_bytes=random_bytes,
            period_s=self._period_s,
            revocation_serial=lambda: trust.serial,
        )
        self.announcer.on_birth = self._announced
        self._membership = Membership(identity.node, identity.epoch, self.announcer.instance, clock.utc_ns(), config)
        self._hooks: list[Callable[[], None]] = []
        self._probing: set[str] = set()
        self._pings = itertools.count()
        self._group: asyncio.TaskGroup | None = None
        self._listen()

    def _listen(self) -> None:
        """Say what this node hears, from the broker and inside sessions."""
        self._sessions.set_members(self._is_member)
        self._sessions.on_contact = self._contact
        # Whether a peer lives must show without an extra key too; a ping says nothing else.
        self._sessions.serve(Ping, self._answer_ping, bootstrap=True)
        hear: tuple[tuple[Channel, Callable[[Incoming], Awaitable[None]]], ...] = (
            (Channel.BIRTH, self._hear_birth),
            (Channel.PULSE, self._hear_pulse),
            (Channel.LOST, self._hear_lost),
            (Channel.REVOKED, self._hear_revoked),
        )
        for channel, handler in hear:
            self._bus.subscribe(every_node(self._identity.fleet, channel), handler)
        # A clone of this box takes over its session at the broker, and what it publishes meanwhile reaches nobody here;
        # so the node looks at what stands in its own place each time it is connected.
        own = topic(self._identity.fleet, self._identity.node, Channel.BIRTH)
        self._bus.subscribe(own, self._hear_birth_again, retained=True)
        self._bus.on_session(self._repeat_revocations)

    def on_peers(self, hook: Callable[[], None]) -> None:
        """Call `hook` after every change among the peers."""
        self._hooks.append(hook)

    def capabilities_changed(self) -> None:
        """Publish the birth again soon."""
        self.announcer.look()

    def peers(self) -> PeerList:
        """Describe all members that this node knows, itself included."""
        views = self._membership.peers(self._clock.now_ns(), self._clock.utc_ns())
        return PeerList(self._identity.fleet, tuple(self._with_session(view) for view in views))

    def _with_session(self, view: PeerView) -> PeerView:
        return view if view.own else msgspec.structs.replace(view, session=self._sessions.view(view.node))

    async def ping(
        self, node: str, count: int, *, timeout_s: float = 5.0, size_bytes: int = 0, parallel: int = 1
    ) -> PingView:
        """Ask `node` `count` times inside a session, `parallel` at once; `size_bytes` go along with each question.

        This node itself is reached by the way to the broker and back.
        """
        if not is_name(node):
            raise QedgeError("job.bad_request", f"{node!r} is no node name.", fix="Use letters, digits, - and _.")
        times_ms: list[float] = []
        load = bytes(size_bytes)
        turns = iter(range(count))  # shared by all askers: who is free takes the next turn

        async def ask() -> None:
            for _ in turns:
                started_ns = self._clock.now_ns()
                await self._ask_once(node, load, timeout_s)
                times_ms.append((self._clock.now_ns() - started_ns) / 1e6)

        begun_ns = self._clock.now_ns()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(parallel, count)):
                    group.create_task(ask())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        elapsed_s = (self._clock.now_ns() - begun_ns) / 1e9
        return PingView(node, tuple(times_ms), size_bytes, elapsed_s, self._sessions.view(node).path)

    async def _ask_once(self, node: str, load: bytes, timeout_s: float) -> None:
        if node == self._identity.node:
            await self._bus.echo(load, deadline_s=timeout_s)
            return
        # Unlike any other by its number; random bits for each would keep the whole source of them at work.
        ping = Ping(self.announcer.instance + next(self._pings).to_bytes(8, "big"), load)
        pong = await self._sessions.call(node, ping, Pong, deadline_s=timeout_s)
        if pong.nonce != ping.nonce:
            raise QedgeError("bus.bad_message", f"{node} gave an answer to another question.")

    async def take_revocations(self, signed: bytes) -> bool:
        """Take a signed list of revoked keys and pass it on; says whether it is newer than what was known."""
        if not await self._learn_revocations(signed):
            return False
        await self._revocations.publish()
        return True

    async def run(self, ready: Ready) -> None:
        """Speak and listen until cancelled; then take leave."""
        await self.host.sample()
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self.host.run())
                group.create_task(self.announcer.run())
                while True:
                    await asyncio.sleep(_TICK_S)
                    self._apply(self._membership.tick(self._clock.now_ns()))
        finally:
            self._group = None

    # What comes in

    async def _hear_birth(self, message: Incoming) -> None:
        node = self._speaker(message)
        if node == self._identity.node:
            self.announcer.heard_own(message.payload)
        if not message.payload:
            self._apply(self._membership.deleted(node))
            return
        birth, member = await self._thread.run(self._check_birth, message)
        # A member signs for itself alone: the name on the certificate, in the birth and in the topic are one.
        if not node == birth.node == member.subject.name or birth.fleet != self._identity.fleet:
            raise bad_message("it speaks for another node")
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        self._apply(self._membership.birth(birth, member.key_id, member.not_after_utc_ns, now_ns, utc_ns))
        if birth.revocation_serial < self._trust.serial and node != self._identity.node:
            self._later(self._publish_revocations_soon())

    async def _hear_birth_again(self, _message: Incoming) -> None:
        """Do nothing: the filter for all births matches, too."""

    def _check_birth(self, message: Incoming) -> tuple[Birth, Member]:
        utc_ns = self._clock.utc_ns()
        _, birth, member = open_signed(message.payload, message.topic, Birth, self._trust, utc_ns)
        return birth, member

    async def _hear_pulse(self, message: Incoming) -> None:
        node = self._speaker(message)
        if node == self._identity.node:
            return
        header, pulse = decode(message.payload, message.topic, Pulse, self._clock.utc_ns())
        if header.sender != node:
            raise bad_message("it speaks for another node")
        self._apply(self._membership.pulse(node, pulse, self._clock.now_ns()))

    async def _hear_lost(self, message: Incoming) -> None:
        node = self._speaker(message)
        if node != self._identity.node:
            decode(message.payload, message.topic, Lost, self._clock.utc_ns())
            self._apply(self._membership.will(node, self._clock.now_ns()))

    async def _hear_revoked(self, message: Incoming) -> None:
        if self._speaker(message) != AUTHORITY:
            raise bad_message("only the authority revokes")
        if not message.payload:
            raise bad_message("nobody can delete a list of revoked keys")
        _, notice = decode(message.payload, message.topic, RevocationNotice, self._clock.utc_ns())
        await self._learn_revocations(notice.signed)

    def _speaker(self, message: Incoming) -> str:
        parsed = parse_topic(message.topic)
        if parsed is None:
            raise bad_message("its topic is none of ours")
        return parsed[1]

    # What follows from it

    def _announced(self, birth: Birth) -> None:
        me = self._trust.read(chain_now(self._chain))
        self._membership.announced(birth, me.key_id, me.not_after_utc_ns, self._clock.now_ns())

    def _period_s(self) -> float:
        return self._membership.period_s()

    def _is_member(self, node: str) -> bool:
        state = self._membership.state(node)
        return self.is_elsewhere(node) if state is None else state not in (PeerState.REVOKED, PeerState.LEFT)

    def _contact(self, node: str) -> None:
        self._apply(self._membership.contact(node, self._clock.now_ns()))

    def _apply(self, effects: Sequence[Effect]) -> None:
        changed = False
        for effect in effects:
            changed |= self._act(effect)
        if changed:
            for state in PeerState:
                count = sum(view.state is state for view in self._membership.peers(self._clock.now_ns(), 0))
                self._metrics.set("qedge_peers", count, (state.value,))
            for hook in self._hooks:
                hook()

    def _act(self, effect: Effect) -> bool:
        """Do what membership asks for; says whether something changed among the peers."""
        match effect:
            case Probe(node):
                self._probe(node)
                return False
            case Rebirth(_, epoch):
                self.announcer.reach_epoch(epoch)
                self.announcer.look(force=True)
                return False
            case Ignored(node, reason):
                self._bus.reject(f"birth_{reason}")
                _LOG.info("peer.birth_ignored", peer=node, reason=reason)
                return False
            case DuplicateSelf(epoch, instance):
                self._step_back(epoch, instance)
                return True
            case PeerUp(node, epoch):
                self._sessions.restarted(node, epoch)
                _LOG.info("peer.up", peer=node, epoch=epoch)
            case PeerSuspect(node):
                _LOG.info("peer.suspect", peer=node)
            case PeerDead(node, epoch):
                # Where this node itself has lost the broker, that is no reason to make all sessions anew afterwards.
                if self._bus.connected:
                    self._sessions.forget(node, "it is dead")
                _LOG.warning("peer.dead", peer=node, epoch=epoch)
            case PeerLeft(node, epoch):
                self._sessions.forget(node, "it left")
                _LOG.info("peer.left", peer=node, epoch=epoch)
            case PeerRevoked(node):
                self._sessions.forget(node, "its key was revoked")
                _LOG.warning("peer.revoked", peer=node)
            case DuplicatePeer(node):
                _LOG.error("peer.duplicate", peer=node)
            case PeerForgotten(node):
                self._sessions.forget(node, "it is forgotten")
                _LOG.debug("peer.changed", peer=node)
            case PeerChanged(node):
                _LOG.debug("peer.changed", peer=node)
        return True

    def _step_back(self, epoch: int, instance: bytes) -> None:
        """Another box has this identity: say so; of both the one that started later goes on, so one voice is left."""
        if not self.duplicate:
            _LOG.error("mesh.duplicate_identity", epoch=epoch, own_epoch=self._identity.epoch)
            self._metrics.add("qedge_duplicate_identity_total")
        self.duplicate = True
        self.announcer.silent = (epoch, instance) > (self._identity.epoch, self.announcer.instance)

    def _probe(self, node: str) -> None:
        if node not in self._probing:
            self._probing.add(node)
            self._later(self._ask(node))

    async def _ask(self, node: str) -> None:
        try:
            await self.ping(node, 1, timeout_s=_PROBE_LIMIT_S)
        except QedgeError:
            self._apply(self._membership.probe_failed(node, self._clock.now_ns()))
        else:
            self._apply(self._membership.probe_answered(node, self._clock.now_ns()))
        finally:
            self._probing.discard(node)

    async def _answer_ping(self, _peer: str, ping: Ping) -> Pong:
        return Pong(ping.nonce)

    # Revocations

    async def _learn_revocations(self, signed: bytes) -> bool:
        if not await self._revocations.learn(signed):
            return False
        self._apply(self._membership.revoked(self._trust.revoked_keys, self._clock.now_ns()))
        self.announcer.look(force=True)
        # what a full disk does not take is in force all the same, and is written when there is room
        if not await self._revocations.write():
            self._later(self._revocations.write_later())
        return True

    async def _repeat_revocations(self, _session_present: bool) -> None:
        self._later(self._publish_revocations_soon())

    async def _publish_revocations_soon(self) -> None:
        await asyncio.sleep(_REPEAT_REVOCATIONS_S)
        await self._revocations.publish()

    def _later(self, work: Coroutine[None, None, None]) -> None:
        if self._group is not None:
            self._group.create_task(work)
        else:
            work.close()
