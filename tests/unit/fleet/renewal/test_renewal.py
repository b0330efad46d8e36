"""A node that asks for its next certificate by itself: when it asks, what it believes, what it tells."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count

import pytest
from structlog.testing import capture_logs

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.bus.model import Handler, Incoming
from qedge.crypto.model import Member
from qedge.crypto.renewing import ask
from qedge.crypto.trust import Trust
from qedge.fleet.renewal.config import RenewalConfig
from qedge.fleet.renewal.pacing import Pacing
from qedge.fleet.renewal.service import RenewalService
from qedge.mesh.certificate_watch import renewal_due_utc_ns
from qedge.wire.envelope import Header, encode, purpose_of
from qedge.wire.renewal import RenewalAnswer
from qedge.wire.topics import Channel, topic
from tests.unit.crypto.renewal_site import Box, RenewalSite

DAY_S = 86_400.0
CONFIG = RenewalConfig(window_s=600, retry_s=300, retry_cap_s=3600)


class Line:
    """A broker that hands requests to the authority, where one is there."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.down = False
        self.handlers: dict[str, Handler] = {}
        self.authority: Callable[[str, bytes], tuple[str, RenewalAnswer] | None] = lambda _where, _message: None
        self._sequence = count()

    def subscribe(self, pattern: str, handler: Handler) -> None:
        self.handlers[pattern] = handler

    async def publish(self, topic: str, payload: bytes, *, qos: int, expiry_s: int = 0) -> None:
        if self.down:
            raise QedgeError("bus.unavailable", "The broker is away.")
        self.sent.append((topic, payload))
        answer = self.authority(topic, payload)
        if answer is not None:
            await self.bring(*answer)

    async def bring(self, where: str, answer: RenewalAnswer, *, retain: bool = False) -> None:
        header = Header(where, "_authority", next(self._sequence), purpose_of(RenewalAnswer), 0)
        await self.handlers[where](Incoming(where, encode(header, answer), 1, retain))


class BoxHolder:
    """A box of the site as the holder of its certificate."""

    def __init__(self, box: Box, clock: ManualClock) -> None:
        self.box, self.clock = box, clock
        self.taken: list[Member] = []

    @property
    def member(self) -> Member:
        return self.box.member

    @property
    def trust(self) -> Trust:
        return self.box.trust

    async def request(self, nonce: bytes, sequence: int) -> tuple[str, bytes]:
        box, utc_ns = self.box, self.clock.utc_ns()
        return ask("fleet", box.name, box.key, box.member.chain, nonce=nonce, sequence=sequence, utc_ns=utc_ns)

    async def take(self, chain: tuple[bytes, ...]) -> Member:
        self.box.member = self.box.trust.verify(chain, self.clock.utc_ns(), name=self.box.name)
        self.taken.append(self.box.member)
        return self.box.member


class World:
    """One node, one broker, one authority, one clock for all."""

    def __init__(self, uniform: float = 0.5) -> None:
        self.site = RenewalSite()
        self.box = self.site.box()
        self.clock = ManualClock(utc_ns=self.site.utc_ns)
        self.line, self.metrics = Line(), Metrics()
        self.holder = BoxHolder(self.box, self.clock)
        self.service = RenewalService(
            CONFIG,
            self.holder,
            self.line,
            clock=self.clock,
            metrics=self.metrics,
            random_bytes=os.urandom,
            uniform=lambda: uniform,
        )

    def answers(self, where: str, message: bytes) -> tuple[str, RenewalAnswer] | None:
        self.site.utc_ns = self.clock.utc_ns()
        answered = self.site.answer(where, message)
        return answered.where, answered.answer

    async def pass_s(self, seconds: float, step_s: float = 60.0) -> None:
        """Let time pass, with a look now and then."""
        until_ns = self.clock.now_ns() + round(seconds * 1e9)
        while self.clock.now_ns() < until_ns:
            self.clock.advance_s(step_s)
            await self.service.look()

    async def pass_until_due(self) -> None:
        self.clock.advance_s((renewal_due_utc_ns(self.box.member) - self.clock.utc_ns()) / 1e9 + 1)
        await self.service.look()

    def count(self, outcome: str) -> float:
        return self.metrics.value("qedge_renewals_total", (outcome,))


async def test_a_node_asks_when_it_is_due_and_goes_on_with_the_answer() -> None:
    world = World()
    world.line.authority = world.answers
    await world.pass_s(60 * DAY_S - 3600, step_s=DAY_S / 4)
    assert world.line.sent == []
    await world.pass_until_due()
    await world.pass_s(600)
    assert len(world.line.sent) == 1
    (taken,) = world.holder.taken
    assert taken.not_after_utc_ns > world.clock.utc_ns() + 89 * DAY_S * 1e9
    assert world.service.standing == ""
    assert (world.count("asked"), world.count("renewed")) == (1, 1)
    await world.pass_s(50 * DAY_S, step_s=DAY_S / 4)
    assert len(world.line.sent) == 1


async def test_without_an_answer_it_asks_again_with_growing_pauses_and_never_more_often_than_its_cap() -> None:
    world = World()
    await world.pass_until_due()
    await world.pass_s(DAY_S)
    assert 24 <= len(world.line.sent) <= 30
    assert world.service.standing == f"asked {len(world.line.sent)} times: nobody answers"


async def test_a_broker_that_is_away_counts_as_a_request_and_is_told() -> None:
    world = World()
    world.line.down = True
    await world.pass_until_due()
    await world.pass_s(3600)
    assert world.count("unsent") <= 5
    assert "The broker is away" in world.service.standing
    world.line.down, world.line.authority = False, world.answers
    await world.pass_s(3600)
    assert len(world.holder.taken) == 1


async def test_where_a_quarter_of_the_life_is_left_the_node_warns_once() -> None:
    world = World()
    with capture_logs() as told:
        await world.pass_until_due()
        await world.pass_s(25 * DAY_S, step_s=DAY_S / 2)
    (warning,) = (line for line in told if line["event"] == "trust.renewal_unanswered")
    assert warning["asked"] > 0
    assert warning["reason"] == "nobody answers"


def test_a_node_that_has_not_asked_yet_does_not_say_that_nobody_answers() -> None:
    member = World().holder.member
    late_utc_ns = member.not_after_utc_ns - (member.not_after_utc_ns - member.not_before_utc_ns) // 5
    pacing = Pacing(RenewalConfig(), lambda: 0.5)
    assert not pacing.wants(member, 0, late_utc_ns)
    assert not pacing.warns(member, late_utc_ns)
    pacing.has_asked(member, 0)
    assert pacing.warns(member, late_utc_ns)
    assert not pacing.warns(member, late_utc_ns)


async def test_a_refusal_is_told_and_the_node_goes_on_asking() -> None:
    world = World()
    world.line.authority = world.answers
    world.site.authority.ledger = world.site.ledger  # which knows nobody
    await world.pass_until_due()
    await world.pass_s(3600)
    assert world.holder.taken == []
    assert "does not know box" in world.service.standing
    assert world.count("refused") >= 2


async def test_answers_that_nobody_asked_for_or_that_are_forged_change_nothing() -> None:
    world = World()
    await world.pass_until_due()
    with pytest.raises(QedgeError, match="nothing was asked"):
        await world.line.bring(topic("fleet", "box", Channel.RENEWED), RenewalAnswer(b"", b"", b"x"))
    await world.pass_s(600)
    answer = world.answers(*world.line.sent[-1])
    assert answer is not None
    where, honest = answer
    for forged in (
        RenewalAnswer(honest.body + b"x", honest.signature, honest.issuer),
        RenewalAnswer(honest.body, honest.signature, b"junk"),
    ):
        with pytest.raises(QedgeError):
            await world.line.bring(where, forged)
    with pytest.raises(QedgeError, match="not kept by a broker"):
        await world.line.bring(where, honest, retain=True)
    assert world.holder.taken == []
    assert world.service.standing == "asked 2 times: nobody answers"
    await world.line.bring(where, honest)
    assert len(world.holder.taken) == 1
    with pytest.raises(QedgeError, match="nothing was asked"):
        await world.line.bring(where, honest)


async def test_a_clock_that_jumps_back_and_forth_leaves_the_certificate_alone() -> None:
    world = World()
    world.line.authority = lambda where, message: None
    before = world.box.member
    world.clock.step_utc_s(200 * DAY_S)
    await world.pass_s(1200)
    assert len(world.line.sent) >= 1
    world.clock.step_utc_s(-400 * DAY_S)
    sent = len(world.line.sent)
    await world.pass_s(DAY_S, step_s=600)
    assert len(world.line.sent) == sent
    assert world.box.member is before
    world.clock.step_utc_s(200 * DAY_S)
    world.line.authority = world.answers
    await world.pass_until_due()
    await world.pass_s(1200)
    assert len(world.holder.taken) == 1
