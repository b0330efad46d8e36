"""The desk of an inviting node keeps requests only while somebody invites, few, short, and hands each out once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import cast

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.bus.model import Incoming
from qedge.bus.service import Bus
from qedge.mesh.enrolment import MAX_PENDING, JoinDesk
from qedge.wire.envelope import Header, decode, encode, purpose_of
from qedge.wire.topics import Channel, topic
from qedge.wire.trust import JoinAnswer, JoinRequest, SigningRequest
from tests.unit.mesh.mesh_site import FLEET, MemoryBroker, MemoryBus, until

WHERE = topic(FLEET, "host", Channel.JOIN)
BACK = topic(FLEET, "new", Channel.REPLY)


class Desk:
    """A desk on a broker in memory."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.bus = MemoryBus(self.broker)
        self.clock = ManualClock(3_600_000_000_000)
        self.desk = JoinDesk(FLEET, "host", bus=cast(Bus, self.bus), clock=self.clock)

    def request(self, node: str = "new") -> JoinRequest:
        return JoinRequest(os.urandom(8), os.urandom(16), SigningRequest(FLEET, node, b"der"), os.urandom(32))

    def send(self, request: JoinRequest, *, retain: bool = False) -> None:
        header = Header(WHERE, request.request.node, 0, purpose_of(JoinRequest), self.clock.utc_ns())
        self.bus.deliver(Incoming(WHERE, encode(header, request), 1, retain, BACK, b"correlation"))

    async def rejected(self, count: int = 1) -> list[str]:
        await until(lambda: len(self.bus.rejected) >= count)
        return self.bus.rejected


@pytest.fixture
async def site() -> AsyncIterator[Desk]:
    made = Desk()
    await made.bus.connect()
    pump = asyncio.create_task(made.bus.pump())
    yield made
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)


async def test_a_request_is_refused_while_nobody_invites(site: Desk) -> None:
    site.send(site.request())
    assert await site.rejected() == ["fleet.not_inviting"]
    assert not (await site.desk.pending(0.0)).requests


async def test_a_request_is_handed_out_once_and_answered_once(site: Desk) -> None:
    await site.desk.pending(0.0)
    request = site.request()
    waiting = asyncio.create_task(site.desk.pending(5.0))
    await asyncio.sleep(0)
    site.send(request)
    (pending,) = (await waiting).requests
    assert pending.request == request
    assert not (await site.desk.pending(0.0)).requests
    await site.desk.answer(pending.id, JoinAnswer(bytes(32), code="fleet.expired"))
    (sent,) = site.broker.of(Channel.REPLY)
    _, answer = decode(sent.payload, BACK, JoinAnswer, site.clock.utc_ns())
    assert answer.code == "fleet.expired"
    with pytest.raises(QedgeError) as twice:
        await site.desk.answer(pending.id, JoinAnswer(bytes(32)))
    assert twice.value.code == "http.not_found"


async def test_a_request_that_a_broker_kept_is_not_believed(site: Desk) -> None:
    await site.desk.pending(0.0)
    site.send(site.request(), retain=True)
    assert await site.rejected() == ["bus.bad_message"]


async def test_a_flood_of_requests_costs_no_more_than_a_few_places(site: Desk) -> None:
    await site.desk.pending(0.0)
    for _ in range(MAX_PENDING + 5):
        site.send(site.request())
    assert await site.rejected(5) == ["fleet.not_inviting"] * 5
    assert len((await site.desk.pending(0.0)).requests) == MAX_PENDING


async def test_places_are_free_again_after_half_a_minute(site: Desk) -> None:
    await site.desk.pending(0.0)
    for _ in range(MAX_PENDING):
        site.send(site.request())
    await until(site.bus._queue.empty)
    site.clock.advance_s(31)
    await site.desk.pending(0.0)
    late = site.request("late")
    site.send(late)
    await until(site.bus._queue.empty)
    assert [each.request for each in (await site.desk.pending(0.0)).requests] == [late]


async def test_a_desk_whose_program_went_away_closes_after_half_a_minute(site: Desk) -> None:
    await site.desk.pending(0.0)
    site.clock.advance_s(31)
    site.send(site.request())
    assert await site.rejected() == ["fleet.not_inviting"]
