"""Fleets of real daemons: who is there, sessions, revocation, strangers and clones, whatever the broker does."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.wire.envelope import Header, SealKind, cover, encode, purpose_of
from qedge.wire.mesh import Lost, PeerState, Pulse
from qedge.wire.session import Hello
from qedge.wire.topics import Channel, topic
from qedge.wire.trust import AUTHORITY
from tests.integration.bus_site import MOSQUITTO
from tests.integration.fleet_site import ThrowAwayFleet
from tests.integration.fleet_world import MQTT_ONLY, FleetWorld

pytestmark = pytest.mark.integration

SOME_KIND = "mosquitto" if MOSQUITTO else "iotcore"


# where there is mosquitto, the bundled broker has its turn in the long run
@pytest.fixture(params=["mosquitto", pytest.param("iotcore", marks=[pytest.mark.long] if MOSQUITTO else [])])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "mosquitto" and MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    return str(request.param)


@pytest.fixture
async def world(kind: str, tmp_path: Path) -> AsyncIterator[FleetWorld]:
    async with FleetWorld(tmp_path, kind) as made:
        yield made


@pytest.fixture
async def one_world(tmp_path: Path) -> AsyncIterator[FleetWorld]:
    async with FleetWorld(tmp_path, SOME_KIND) as made:
        yield made


async def test_nodes_see_each_other_live_die_return_and_leave(world: FleetWorld) -> None:
    for node in "abc":
        world.start(node)
    await world.wait_together("a", "b", "c")
    born = await world.wait_peer("a", "c", lambda peer: [each.name for each in peer.capabilities] == ["qrng"])
    keys = {at: (await world.wait_state(at, "c", PeerState.ALIVE)).key_id for at in "ab"}
    assert keys["a"] == keys["b"] != "", "the birth has to be verified by a certificate"

    world.daemons["c"].kill()
    await asyncio.gather(*(world.wait_state(at, "c", PeerState.DEAD) for at in "ab"))
    world.daemons["c"].start()
    again = await asyncio.gather(*(world.wait_state(at, "c", PeerState.ALIVE) for at in "ab"))
    assert all(view.epoch > born.epoch for view in again)
    await world.wait_together("a", "b", "c")  # c, too: its session at the broker is older than what it knows
    assert (await world.wait_ping("a", "c")).rtt_ms

    world.daemons["c"].stop()
    await asyncio.gather(*(world.wait_state(at, "c", PeerState.LEFT) for at in "ab"))
    assert (await world.peer("a", "b") or born).state is PeerState.ALIVE


@pytest.mark.long
async def test_sessions_and_peers_outlive_a_broker_that_forgets_everything(world: FleetWorld) -> None:
    world.start("a")
    world.start("b")
    world.start("c", MQTT_ONLY)
    await world.wait_together("a", "b", "c")
    await world.ping("a", "b", 3)
    assert (await world.ping("a", "c", 3)).path == "mqtt"
    before_b = await world.wait_peer("a", "b", lambda peer: peer.session.path == "direct")
    before_c = await world.wait_peer("a", "c", lambda peer: peer.session.opened_utc_ns > 0)

    world.broker.kill()
    await world.daemons["a"].wait_status(lambda status: not status.bus.connected)
    await world.daemons["b"].wait_status(lambda status: not status.bus.connected)
    began = time.monotonic()
    while time.monotonic() - began < 3:
        assert (await world.ping("a", "b")).path == "direct"
        assert (await world.ping("b", "a")).path == "direct"
        await asyncio.sleep(0.1)
    world.broker.start()
    await world.wait_up("a", "b", "c")
    await world.wait_together("a", "b", "c")
    assert (await world.wait_ping("a", "c")).path == "mqtt"
    assert (await world.wait_ping("a", "b")).path == "direct"
    for before in (before_b, before_c):
        after = await world.peer("a", before.node)
        assert after is not None
        assert after.session.opened_utc_ns == before.session.opened_utc_ns, "the session was opened anew"
        assert after.epoch == before.epoch


@pytest.mark.long
async def test_a_revocation_reaches_all_and_survives_restarts_of_nodes_and_of_the_broker(world: FleetWorld) -> None:
    for node in "abc":
        world.start(node)
    await world.wait_together("a", "b", "c")
    await world.ping("a", "c")
    await world.ping("c", "b")
    victim = await world.wait_peer("a", "c", lambda peer: peer.key_id != "")
    async with world.daemons["a"].client() as client:
        await client.fleet.revoke(world.fleet.revoke(victim.key_id))
    for at in "ab":
        await world.wait_state(at, "c", PeerState.REVOKED)
    await _refused(world, "c")

    world.broker.kill()
    world.daemons["b"].kill()
    world.broker.start()
    world.daemons["b"].start()
    await world.wait_together("a", "b")
    world.daemons["c"].kill()
    refused_before = await world.metric("b", "qedge_bus_rejected_total")
    world.daemons["c"].start()  # and so speaks up with a new birth, which nobody takes
    await world.wait_up("c")
    async with asyncio.timeout(30):
        while await world.metric("b", "qedge_bus_rejected_total") <= refused_before:
            await asyncio.sleep(0.1)
    await _refused(world, "c")


async def _refused(world: FleetWorld, revoked: str) -> None:
    """Check that a revoked node is alive to nobody and gets no session, in either direction."""
    pairs = [pair for at in "ab" for pair in ((at, revoked), (revoked, at))]
    failures = await asyncio.gather(*(world.ping(*pair, timeout_s=1.5) for pair in pairs), return_exceptions=True)
    for failure in failures:
        assert isinstance(failure, QedgeError)
        assert failure.code.startswith(("peer.", "auth.", "session."))
    for at in "ab":
        view = await world.peer(at, revoked)
        assert view is None or (view.state is PeerState.REVOKED and view.session.state == "none")


@pytest.mark.long
async def test_a_clone_reports_itself_and_its_peers_stay_sane(world: FleetWorld) -> None:
    for node in "abc":
        world.start(node)
    await world.wait_together("a", "b", "c")
    world.daemons["c"].stop()
    shutil.copytree(world.folder / "c", world.folder / "twin")
    world.daemons["c"].start()
    await world.wait_together("a", "b", "c")
    world.start_stranger("twin")
    # Either one hears the birth of the other, or, where the broker only lets them push each other out, the bus says so.
    async with asyncio.timeout(60):
        while not any(_knows_of_its_twin(world, node) for node in ("c", "twin")):
            await asyncio.sleep(0.2)
    for node in ("c", "twin"):
        if world.events(node, "mesh.duplicate_identity"):
            await world.daemons[node].wait_status(lambda status: not status.ready)
    # The others go on as before.
    assert (await world.wait_ping("a", "b")).rtt_ms
    view = await world.peer("a", "b")
    assert view is not None
    assert view.state is PeerState.ALIVE
    # One goes, and the name is whole again.
    world.daemons["twin"].kill()
    world.daemons["c"].stop()
    world.daemons["c"].start()
    await world.wait_together("a", "b", "c")
    assert (await world.wait_ping("a", "c")).rtt_ms


def _knows_of_its_twin(world: FleetWorld, node: str) -> bool:
    same_name = [line for line in world.events(node, "bus.disconnected") if "another box have the same name" in line]
    return bool(world.events(node, "mesh.duplicate_identity") or same_name)


async def test_strangers_on_the_broker_never_become_peers(one_world: FleetWorld) -> None:
    world = one_world
    world.start("a")
    world.start("b")
    await world.wait_together("a", "b")
    world.start("mallory", fleet=ThrowAwayFleet())  # another authority, the same name of the fleet
    world.start_stranger("trudy", '\n[node]\nname = "trudy"\nfleet = "fleet"\n')
    await world.wait_up("mallory", "trudy")
    async with asyncio.timeout(30):
        while await world.metric("a", "qedge_bus_rejected_total") < 1:
            await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    for at in "ab":
        async with world.daemons[at].client() as client:
            assert [peer.node for peer in (await client.peers()).peers] == ["a", "b"]
    for stranger in ("mallory", "trudy"):
        for pair in (("a", stranger), (stranger, "a")):
            with pytest.raises(QedgeError):
                await world.ping(*pair)
    assert (await world.ping("a", "b")).rtt_ms


@pytest.mark.long
async def test_a_flood_of_garbage_leaves_the_sessions_working(one_world: FleetWorld) -> None:
    world = one_world
    world.start("a", MQTT_ONLY)
    world.start("b", MQTT_ONLY)
    await world.wait_together("a", "b")
    await world.ping("a", "b")
    before = await world.wait_peer("a", "b", lambda peer: peer.session.opened_utc_ns > 0)
    dice = random.Random(7)
    async with world.stranger() as stranger:
        for number in range(400):
            for where, payload in _garbage(dice, number):
                await stranger.publish(where, payload, qos=0)
            if number % 100 == 0:
                assert (await world.wait_ping("a", "b")).path == "mqtt"
    assert (await world.wait_ping("b", "a")).path == "mqtt"
    await world.wait_together("a", "b")
    after = await world.peer("a", "b")
    assert after is not None
    assert after.session.state == "open"
    assert after.epoch == before.epoch
    assert await world.metric("a", "qedge_bus_rejected_total") > 100
    for node in "ab":
        assert world.daemons[node].is_alive()
        async with world.daemons[node].client() as client:
            assert [peer.node for peer in (await client.peers()).peers] == ["a", "b"]


def _garbage(dice: random.Random, number: int) -> list[tuple[str, bytes]]:
    """Make noise, broken envelopes, and well-formed messages in other nodes' names."""
    utc_ns = time.time_ns()
    hello = topic("fleet", "a", Channel.HELLO)
    sealed = topic("fleet", "a", Channel.SEALED)
    birth = topic("fleet", dice.choice(("b", "ghost")), Channel.BIRTH)
    pulse = topic("fleet", "b", Channel.PULSE)
    lost = topic("fleet", "b", Channel.LOST)
    revoked = topic("fleet", AUTHORITY, Channel.REVOKED)
    shake = Hello(dice.randbytes(16), number % 3 - 1, dice.randbytes(dice.randrange(300)))
    beat = Pulse(2, dice.randbytes(16), number + 1, dice.randbytes(32))

    def head(where: str, purpose: str) -> Header:
        return Header(where, "b", number, purpose, utc_ns)

    return [
        (hello, encode(head(hello, purpose_of(Hello)), shake)),
        (sealed, cover(SealKind.SEALED, head(sealed, "frame"), dice.randbytes(dice.randrange(400)))),
        (birth, cover(SealKind.SIGNED, head(birth, "birth/1"), dice.randbytes(60)) + dice.randbytes(3000)),
        (pulse, encode(head(pulse, purpose_of(Pulse)), beat)),
        (lost, encode(head(lost, purpose_of(Lost)), Lost(2, dice.randbytes(16)))),
        (revoked, dice.randbytes(dice.randrange(200))),
        (dice.choice((hello, sealed, birth, pulse, revoked)), dice.randbytes(dice.randrange(64))),
    ]
