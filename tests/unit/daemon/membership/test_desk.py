"""What an operator, and what a mere peer, can change in a node's place in its fleet."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.child_broker import ChildBroker
from qedge.bus.config import BusConfig
from qedge.bus.model import Endpoint
from qedge.bus.service import Bus
from qedge.crypto.certificates import read_request
from qedge.crypto.joining import Invitation, write_invitation
from qedge.crypto.keys import generate
from qedge.crypto.trust import pin
from qedge.daemon.membership.desk import FleetDesk
from qedge.daemon.membership.identity import adopt_membership, keep_renewal, load_identity
from qedge.mesh.enrolment import JoinDesk
from qedge.store.store import Store
from qedge.wire.mesh import PeerState
from qedge.wire.trust import (
    Adopted,
    Anchor,
    BrokerAddress,
    JoinCommand,
    JoinRequest,
    Membership,
    NewIdentity,
    RenewalAsk,
    SigningRequest,
)
from tests.integration.fleet_site import DAY_NS, ThrowAwayFleet
from tests.unit.mesh.mesh_site import MemoryBroker, MemoryBus, Site, SiteNode, until


class Desk:
    """The desk of node `b` of a fleet, and node `a`, which may be anybody with a certificate."""

    def __init__(self, store: Store) -> None:
        self.site = Site()
        self.fleet = self.site.fleet
        self.store = store
        self.renewed = 0
        self.checked: list[Anchor] = []
        self.asked: list[Endpoint] = []
        self.requests: list[JoinRequest] = []
        self.silent = False

    async def start(self, config: BusConfig | None = None, broker: ChildBroker | None = None) -> None:
        key, chain = self.fleet.member("b", days=30)
        membership = Membership(self.fleet.anchor, chain, BrokerAddress("mqtt://192.0.2.7:1883", "u", "p"))
        await self.store.write(
            lambda connection: connection.execute(
                "INSERT INTO identities VALUES ('current', 'fleet', 'b', 0, ?, ?, ?)",
                (key.algorithm, key.seed, msgspec.msgpack.encode(membership)),
            )
        )
        self.identity = await load_identity(self.store, "x", "x", time.time_ns(), os.urandom)
        self.a = await self.site.node("a")
        self.b = await self.site.join(SiteNode(self.site, "b", key, chain, self.identity.trust))
        await until(lambda: self.a.state("b") is PeerState.ALIVE and self.b.state("a") is PeerState.ALIVE)
        bus = cast(Bus, MemoryBus(MemoryBroker()))
        self.desk = FleetDesk(
            self.identity,
            config or BusConfig(),
            store=self.store,
            broker=broker,
            desk=JoinDesk("fleet", "b", bus=bus, clock=SystemClock()),
            ask_to_join=self._ask_to_join,
            check_anchor=self._check_anchor,
            sessions=self.b.sessions,
            mesh=self.b.mesh,
            clock=SystemClock(),
            random_bytes=os.urandom,
            renew=self._renew,
        )

    def _renew(self) -> None:
        self.renewed += 1

    async def _check_anchor(self, anchor: Anchor) -> None:
        self.checked.append(anchor)

    async def _ask_to_join(self, invitation: Invitation, request: JoinRequest, endpoint: Endpoint) -> Membership:
        """Certify at once, as the inviting fleet would."""
        self.asked.append(endpoint)
        self.requests.append(request)
        if self.silent:
            raise QedgeError("bus.timeout", "nobody answers")
        _, public_key = read_request(request.request.request)
        chain = self.inviting.certify(request.request.node, public_key)
        return Membership(self.inviting.anchor, chain, invitation.broker)

    inviting: ThrowAwayFleet

    def invite(self, *, minutes: float = 5) -> str:
        self.inviting = ThrowAwayFleet("far")
        broker = BrokerAddress("mqtt://192.0.2.9:1884", "guest", "word")
        until_ns = time.time_ns() + round(minutes * 60e9)
        pinned = pin(self.inviting.anchor)
        return write_invitation(Invitation("far", "host", 3, broker, pinned, os.urandom(8), os.urandom(16), until_ns))

    async def present(self) -> tuple[str, int]:
        """What the database says after a restart: fleet, and until when."""
        identity = await load_identity(self.store, "x", "x", time.time_ns(), os.urandom)
        return identity.fleet, identity.member.not_after_utc_ns


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk that was not started yet."""
    store = Store(tmp_path / "q.sqlite3", metrics=Metrics())
    made = Desk(store)
    yield made
    await made.site.close()
    store.close()


async def bring(desk: Desk, membership: Membership) -> Adopted:
    """Let the peer bring a certificate through its sealed session."""
    return await desk.a.sessions.call("b", membership, Adopted, deadline_s=5)


async def test_a_peer_brings_the_next_certificate_of_the_same_key(desk: Desk) -> None:
    await desk.start()
    request = await desk.a.sessions.call("b", RenewalAsk(), SigningRequest, deadline_s=5)
    subject, public_key = read_request(request.request)
    assert (subject.name, public_key.key_id) == ("b", desk.identity.key.key_id)
    chain = desk.fleet.certify("b", public_key, days=90)
    answer = await bring(desk, Membership(desk.fleet.anchor, chain, BrokerAddress("mqtt://evil.example:1883")))
    assert answer == Adopted("b")
    fleet, until_utc_ns = await desk.present()
    assert fleet == "fleet"
    assert until_utc_ns > time.time_ns() + 80 * DAY_NS
    renewed = await load_identity(desk.store, "x", "x", time.time_ns(), os.urandom)
    assert renewed.membership.broker == desk.identity.membership.broker


async def test_a_node_goes_on_with_the_next_certificate_at_once_and_its_sessions_stay(desk: Desk) -> None:
    await desk.start()
    told: list[int] = []
    desk.identity.on_renewed.append(lambda: told.append(desk.identity.member.not_after_utc_ns))
    before = desk.a.sessions.view("b")
    chain = desk.fleet.certify("b", desk.identity.key.public_key, days=90)
    member = await desk.desk.take_renewal(chain)
    assert (desk.renewed, told) == (0, [member.not_after_utc_ns])
    assert desk.identity.shown.now == chain == desk.identity.membership.chain
    assert desk.desk.identity().valid_until_utc_ns == member.not_after_utc_ns
    assert desk.a.sessions.view("b") == before
    assert (await desk.present())[1] == member.not_after_utc_ns


async def test_the_renewal_of_the_own_box_keeps_the_place_where_the_fleet_meets(desk: Desk) -> None:
    await desk.start()
    chain = desk.fleet.certify("b", desk.identity.key.public_key, days=90)
    await desk.desk.renew("b", Membership(desk.fleet.anchor, chain))
    renewed = await load_identity(desk.store, "x", "x", time.time_ns(), os.urandom)
    assert renewed.membership.broker == BrokerAddress("mqtt://192.0.2.7:1883", "u", "p")
    assert desk.renewed == 0


async def test_a_renewal_leaves_a_key_alone_that_waits_to_be_certified(desk: Desk) -> None:
    await desk.start()
    request = await desk.desk.new_identity(NewIdentity("fleet", "b", 3))
    await desk.desk.take_renewal(desk.fleet.certify("b", desk.identity.key.public_key, days=90))
    chain = desk.fleet.certify("b", read_request(request.request)[1], days=91)
    await desk.desk.adopt(Membership(desk.fleet.anchor, chain, desk.identity.membership.broker))
    assert desk.renewed == 1


async def test_where_the_clock_has_lost_the_time_the_certificate_before_is_shown(desk: Desk) -> None:
    await desk.start()
    old = desk.identity.member
    desk.fleet.utc_ns += 20 * DAY_NS
    chain = desk.fleet.certify("b", desk.identity.key.public_key, days=90)
    now_ns = time.time_ns()
    membership = msgspec.structs.replace(desk.identity.membership, chain=chain)
    await keep_renewal(desk.store, membership)
    lost = await load_identity(desk.store, "x", "x", now_ns, os.urandom)
    assert lost.member.chain == lost.membership.chain == old.chain
    after = await load_identity(desk.store, "x", "x", now_ns + 21 * DAY_NS, os.urandom)
    assert after.membership.chain == chain


@pytest.mark.parametrize("wrong", ["fleet", "key", "name"])
async def test_a_peer_cannot_make_a_node_somebody_else(desk: Desk, wrong: str) -> None:
    await desk.start()
    key = desk.identity.key.public_key
    if wrong == "fleet":
        other = ThrowAwayFleet("fleet")
        membership = Membership(other.anchor, other.certify("b", key, days=90))
    elif wrong == "key":
        stranger = generate("ml-dsa-65", os.urandom).public_key
        membership = Membership(desk.fleet.anchor, desk.fleet.certify("b", stranger, days=90))
    else:
        membership = Membership(desk.fleet.anchor, desk.fleet.certify("c", key, days=90))
    before = await desk.present()
    with pytest.raises(QedgeError) as refused:
        await bring(desk, membership)
    assert refused.value.code == "auth.untrusted"
    assert await desk.present() == before
    assert desk.renewed == 0


async def test_an_older_certificate_changes_nothing(desk: Desk) -> None:
    await desk.start()
    before = await desk.present()
    chain = desk.fleet.certify("b", desk.identity.key.public_key, days=2)
    assert await bring(desk, Membership(desk.fleet.anchor, chain)) == Adopted("b")
    assert (await desk.present(), desk.renewed) == (before, 0)


async def test_an_anchor_is_checked_in_full_before_a_box_moves_to_it(desk: Desk) -> None:
    await desk.start()
    view = await desk.desk.join(JoinCommand(desk.invite(), "new"))
    assert desk.checked == [desk.inviting.anchor]
    assert desk.renewed == 1
    assert view.fleet == "fleet"  # the answer comes from who the node still is; its services start anew after it
    assert (await desk.present())[0] == "far"
    (endpoint,) = desk.asked
    assert (endpoint.host, endpoint.port, endpoint.username, endpoint.password) == ("192.0.2.9", 1884, "guest", "word")


async def test_the_configured_broker_counts_more_than_that_of_an_invitation(desk: Desk) -> None:
    await desk.start(BusConfig(url="mqtts://broker.example"))
    await desk.desk.join(JoinCommand(desk.invite()))
    (endpoint,) = desk.asked
    assert (endpoint.host, endpoint.tls, endpoint.password) == ("broker.example", True, "")


async def test_a_box_whose_answer_was_lost_asks_with_the_same_request_again(desk: Desk) -> None:
    await desk.start()
    line = desk.invite()
    desk.silent = True
    for _ in range(2):
        with pytest.raises(QedgeError) as silence:
            await desk.desk.join(JoinCommand(line))
        assert silence.value.code == "bus.timeout"
    desk.silent = False
    await desk.desk.join(JoinCommand(line))
    first, *others = desk.requests
    assert others == [first, first]
    assert (await desk.present())[0] == "far"


async def test_another_invitation_gets_another_key(desk: Desk) -> None:
    await desk.start()
    desk.silent = True
    for line in (desk.invite(), desk.invite()):
        with pytest.raises(QedgeError):
            await desk.desk.join(JoinCommand(line))
    assert desk.requests[0].request != desk.requests[1].request


async def test_an_expired_invitation_leaves_no_key_behind(desk: Desk) -> None:
    await desk.start()
    with pytest.raises(QedgeError) as refused:
        await desk.desk.join(JoinCommand(desk.invite(minutes=-1)))
    assert refused.value.code == "fleet.expired"
    assert not desk.asked


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("", "this box alone"),
        ("127.0.0.1:1883", "this box alone"),
        ("localhost:1883", "this box alone"),
        ("[::1]:1883", "this box alone"),
        ("0.0.0.0:1883", "every address"),
        ("[::]:1883", "every address"),
    ],
)
async def test_nobody_is_invited_to_a_broker_that_nobody_can_reach(
    desk: Desk, tmp_path: Path, listen: str, why: str
) -> None:
    await desk.start(broker=_broker(tmp_path, listen))
    with pytest.raises(QedgeError) as refused:
        await desk.desk.broker()
    assert refused.value.code == "fleet.loopback_broker"
    assert why in str(refused.value)
    assert "listen" in (refused.value.fix or "")
    assert desk.desk.identity().broker == ""


async def test_the_private_broker_is_named_with_its_password_where_it_listens(desk: Desk, tmp_path: Path) -> None:
    broker = _broker(tmp_path, "192.0.2.4:1883")
    await desk.start(broker=broker)
    address = await desk.desk.broker()
    assert (address.url, address.username, address.password) == (
        "mqtt://192.0.2.4:1883",
        broker.username,
        broker.password,
    )
    assert desk.desk.identity().broker == "mqtt://192.0.2.4:1883"


async def test_a_member_on_the_broker_of_its_invitation_passes_it_on(desk: Desk) -> None:
    await desk.start()
    assert await desk.desk.broker() == BrokerAddress("mqtt://192.0.2.7:1883", "u", "p")


async def test_a_member_that_is_not_there_is_named_when_certificates_are_renewed(desk: Desk) -> None:
    await desk.start()
    renewals = await desk.desk.renewals()
    assert [each.node for each in renewals.requests] == ["b"]
    assert renewals.absent == ("a",)  # node a has no desk in this test, so it refuses


async def test_only_members_whose_renewal_is_due_answer_where_only_they_are_asked(desk: Desk) -> None:
    await desk.start()
    renewals = await desk.desk.renewals(due_only=True)
    assert renewals.requests == ()
    assert renewals.not_due == ("b",)
    with pytest.raises(QedgeError) as early:
        await desk.a.sessions.call("b", RenewalAsk(due_only=True), SigningRequest, deadline_s=5)
    assert early.value.code == "fleet.not_due"


async def test_a_new_identity_waits_until_it_is_certified(desk: Desk) -> None:
    await desk.start()
    request = await desk.desk.new_identity(NewIdentity("far", "c", 5))
    assert read_request(request.request)[1].algorithm == "ml-dsa-87"
    assert (await desk.present())[0] == "fleet"
    far = ThrowAwayFleet("far")
    chain = far.certify("c", read_request(request.request)[1])
    await adopt_membership(desk.store, Membership(far.anchor, chain), time.time_ns())
    assert (await desk.present())[0] == "far"


def _broker(folder: Path, listen: str) -> ChildBroker:
    return ChildBroker(
        BusConfig(listen=listen),
        folder,
        password="word",
        clock=SystemClock(),
        random_bytes=os.urandom,
        uniform=lambda: 0.5,
    )
