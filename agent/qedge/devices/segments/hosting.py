"""Serves peers: lets them read segments of this node through policy, carries keys to them, takes their commands."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.service import Ready
from qedge.devices.segments.commanding import CommandDesk
from qedge.devices.segments.model import Handover
from qedge.devices.segments.ports import Peers, Subjects
from qedge.devices.segments.service import SegmentService
from qedge.security.model import SubjectKind
from qedge.wire.segments import (
    ChannelSecret,
    CommandAsk,
    CommandView,
    SegmentAsk,
    SegmentGranted,
    SegmentHeard,
    SegmentKey,
    SegmentQuit,
)

_LOG: Final = get_logger("devices")
_MAX_KEYS: Final = 8
_CALL_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.5
_LAST_PAUSE_S: Final = 30.0


class PeerHost:
    """Answers peers. Each has a short queue of keys; a peer that is away gets the newest ones when it is back."""

    name = "segment-peers"

    def __init__(
        self,
        service: SegmentService,
        desk: CommandDesk,
        peers: Peers,
        subjects: Subjects,
        *,
        clock: Clock,
        check_asker: Callable[[str], None] = lambda _peer: None,
    ) -> None:
        """`check_asker` raises where nothing privileged may be done for a peer: its commands are not carried out."""
        self._service = service
        self._desk = desk
        self._peers = peers
        self._subjects = subjects
        self._clock = clock
        self._check_asker = check_asker
        self._queues: dict[str, deque[SegmentKey]] = {}
        self._group: asyncio.TaskGroup | None = None
        service.bind(to_peer=self._to_peer)
        peers.serve(SegmentAsk, self._ask)
        peers.serve(SegmentQuit, self._quit)
        peers.serve(CommandAsk, self._command)

    async def run(self, ready: Ready) -> None:
        """Carry keys to peers until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for peer in self._queues:
                    group.create_task(self._carry(peer))
                ready()
                await asyncio.Event().wait()
        finally:
            self._group = None

    async def _ask(self, peer: str, ask: SegmentAsk) -> SegmentGranted:
        lease_s = float(self._service.config.subscription_s)
        subject = self._subjects.find(SubjectKind.PEER, peer)
        until_ns = self._clock.now_ns() + round(lease_s * 1e9)
        admission = self._service.subscribe(subject, ask.segment, ask.channels, until_ns=until_ns)
        refused = tuple((channel, str(reason)) for channel, reason in admission.refused)
        return SegmentGranted(admission.granted, refused, lease_s)

    async def _quit(self, peer: str, quit_: SegmentQuit) -> SegmentHeard:
        self._service.let_go(SubjectKind.PEER, peer, quit_.segment)
        return SegmentHeard()

    async def _command(self, peer: str, ask: CommandAsk) -> CommandView:
        self._check_asker(peer)
        return await self._desk.command(self._subjects.find(SubjectKind.PEER, peer), ask, client=f"node:{peer}")

    def _to_peer(self, peer: str, segment: str, handover: Handover, reason: str) -> None:
        secrets = tuple(ChannelSecret(channel, secret) for channel, secret in handover.secrets.items())
        queue = self._queues.get(peer)
        if queue is None:
            queue = self._queues[peer] = deque(maxlen=_MAX_KEYS)
            if self._group is not None:
                self._group.create_task(self._carry(peer))
        if not secrets:
            for waiting in [each for each in queue if each.segment == segment]:
                queue.remove(waiting)  # what it may not have any more does not go out either
        queue.append(SegmentKey(segment, handover.epoch, secrets, reason[:64]))

    async def _carry(self, peer: str) -> None:
        """Carry a peer's keys in their order, again and again while it is away."""
        queue = self._queues[peer]
        pause_s = _FIRST_PAUSE_S
        while queue:
            key = queue[0]
            try:
                await self._peers.call(peer, key, SegmentHeard, deadline_s=_CALL_S)
            except QedgeError as error:
                _LOG.debug("segment.key_not_delivered", peer=peer, segment=key.segment, code=error.code)
                if error.code == "peer.unknown":
                    break
                await asyncio.sleep(pause_s)
                pause_s = min(_LAST_PAUSE_S, pause_s * 2)
                continue
            pause_s = _FIRST_PAUSE_S
            if queue and queue[0] is key:
                queue.popleft()
        self._queues.pop(peer, None)
