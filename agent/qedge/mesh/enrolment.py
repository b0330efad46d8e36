"""Joining: the desk of the inviting node, where requests wait for the operator's program, and the box that asks.

The node itself decides nothing: it hands requests on, unread, to a program that has the issuing key, and only while
such a program asks for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.metrics import Metrics
from qedge.bus.config import BusConfig
from qedge.bus.model import Endpoint, Incoming
from qedge.bus.service import Bus
from qedge.crypto.joining import Invitation, check_answer
from qedge.wire.envelope import Header, bad_message, decode, encode, purpose_of
from qedge.wire.topics import Channel, topic
from qedge.wire.trust import JoinAnswer, JoinRequest, Membership, PendingJoin, PendingJoins

MAX_PENDING: Final = 16
_PENDING_LIMIT_NS: Final = 30_000_000_000
_LISTENER_LIMIT_NS: Final = 30_000_000_000
_CONNECT_LIMIT_S: Final = 10.0
_ANSWER_LIMIT_S: Final = 10.0
_RETRIES: Final = 3


class JoinDesk:
    """Requests of boxes that want to join, kept for a short while."""

    def __init__(self, fleet: str, node: str, *, bus: Bus, clock: Clock) -> None:
        self._node = node
        self._bus = bus
        self._clock = clock
        self._ids = itertools.count(1)
        self._sequence = itertools.count()
        self._waiting: dict[str, tuple[int, PendingJoin, Incoming]] = {}
        self._handed: set[str] = set()
        self._listened_ns = -_LISTENER_LIMIT_NS
        self._arrived = asyncio.Event()
        bus.subscribe(topic(fleet, node, Channel.JOIN), self._hear)

    async def pending(self, wait_s: float) -> PendingJoins:
        """Return requests that were not handed out yet; waits up to `wait_s` seconds for the first."""
        self._arrived.clear()
        self._listened_ns = self._clock.now_ns()
        if not self._fresh():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._arrived.wait()
        self._listened_ns = self._clock.now_ns()
        fresh = self._fresh()
        self._handed.update(each.id for each in fresh)
        return PendingJoins(tuple(fresh))

    async def answer(self, request_id: str, answer: JoinAnswer) -> None:
        """Answer a request; raises `http.not_found` for one that does not wait any more."""
        entry = self._waiting.pop(request_id, None)
        self._handed.discard(request_id)
        if entry is None:
            raise QedgeError("http.not_found", "The request does not wait any more.", fix="Let the box ask again.")
        message = entry[2]
        utc_ns = self._clock.utc_ns()
        header = Header(message.response_topic, self._node, next(self._sequence), purpose_of(JoinAnswer), utc_ns)
        self._bus.respond(message, encode(header, answer))

    async def _hear(self, message: Incoming) -> None:
        now_ns = self._clock.now_ns()
        if now_ns - self._listened_ns > _LISTENER_LIMIT_NS:
            raise QedgeError("fleet.not_inviting", "A box wants to join, and nobody invites.")
        if message.retain:
            raise bad_message("a request is not kept by a broker")
        _, request = decode(message.payload, message.topic, JoinRequest, self._clock.utc_ns())
        self._waiting = {key: each for key, each in self._waiting.items() if now_ns - each[0] < _PENDING_LIMIT_NS}
        if len(self._waiting) >= MAX_PENDING:
            raise QedgeError("fleet.not_inviting", "Too many boxes want to join at once.")
        pending = PendingJoin(str(next(self._ids)), request)
        self._waiting[pending.id] = (now_ns, pending, message)
        self._arrived.set()

    def _fresh(self) -> list[PendingJoin]:
        return [each[1] for key, each in self._waiting.items() if key not in self._handed]


async def join_fleet(
    invitation: Invitation,
    request: JoinRequest,
    endpoint: Endpoint,
    *,
    config: BusConfig,
    clock: Clock,
    metrics: Metrics,
    random_bytes: RandomBytes,
    uniform: Callable[[], float],
) -> Membership:
    """Ask the inviting node, by a connection of its own to its broker.

    The same request asked again gets the same answer, also where the first one was lost.

    Raises `fleet.*` where the fleet refuses, `bus.unavailable` where its broker cannot be reached, `bus.timeout` where
    nobody answers there.
    """
    back = topic(invitation.fleet, request.request.node, Channel.REPLY)
    bus = Bus(
        config,
        lambda: endpoint,
        client_id=f"qedge-join-{random_bytes(8).hex()}",
        reply_topic=back,
        clock=clock,
        metrics=metrics,
        random_bytes=random_bytes,
        uniform=uniform,
    )
    running = asyncio.create_task(bus.run(lambda: None))
    try:
        await _connected(bus, running)
        return await _exchange(bus, invitation, request, clock)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _connected(bus: Bus, running: asyncio.Task[None]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CONNECT_LIMIT_S):
            while not (bus.connected or running.done()):  # noqa: ASYNC110 - the bus has no event for it
                await asyncio.sleep(0.02)
    if running.done():
        running.result()
    if not bus.connected:
        view = bus.view()
        raise QedgeError(
            "bus.unavailable",
            f"The fleet's broker {view.broker} cannot be reached ({view.error or 'no answer'}).",
            fix="Check that this box can reach that address and port, then use the invitation again.",
        )


async def _exchange(bus: Bus, invitation: Invitation, request: JoinRequest, clock: Clock) -> Membership:
    where = topic(invitation.fleet, invitation.inviter, Channel.JOIN)
    for number in range(_RETRIES):
        header = Header(where, request.request.node, number, purpose_of(JoinRequest), clock.utc_ns())
        try:
            message = await bus.request(where, encode(header, request), deadline_s=_ANSWER_LIMIT_S)
        except QedgeError as error:
            if error.code == "bus.timeout" and number + 1 < _RETRIES:
                continue
            raise _nobody(invitation) from error
        _, answer = decode(message.payload, message.topic, JoinAnswer, clock.utc_ns())
        return check_answer(invitation, request, answer)
    raise _nobody(invitation)


def _nobody(invitation: Invitation) -> QedgeError:
    return QedgeError(
        "bus.timeout",
        f"Nobody at {invitation.inviter} answers the invitation.",
        fix="Is `qedge fleet invite` still running there? An invitation is good once: make a new one.",
    )
