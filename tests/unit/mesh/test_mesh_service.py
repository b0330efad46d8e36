"""The mesh of real nodes on a broker in memory: what a node says of itself, and what it makes of its peers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from qedge.base.errors import QedgeError
from qedge.crypto.signed import open_signed
from qedge.mesh import revocations
from qedge.mesh.birth import Serials
from qedge.wire.mesh import Birth, PeerState
from qedge.wire.node import DriverView
from qedge.wire.topics import Channel, topic
from tests.unit.mesh.mesh_site import FLEET, Site, SiteNode, until

BIRTH_OF_A = topic(FLEET, "a", Channel.BIRTH)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    yield made
    await made.close()


def births(site: Site, node: str = "a") -> list[Birth]:
    where = topic(FLEET, node, Channel.BIRTH)
    messages = [each for each in site.broker.of(Channel.BIRTH, node) if each.payload]
    return [open_signed(each.payload, where, Birth, site.fleet.trust(), time.time_ns())[1] for each in messages]


def driver(name: str, state: str = "up") -> DriverView:
    return DriverView(name, "sim_qpu", "qpu", "1", True, "unlocked", state, properties={"num_qubits": 20})


async def test_the_birth_is_signed_retained_and_published_anew_after_every_connection(site: Site) -> None:
    node = await site.node("a")
    await until(lambda: len(births(site)) == 1)
    assert BIRTH_OF_A in site.broker.retained
    first = births(site)[0]
    assert (first.state, first.node, first.standalone) == ("up", "a", False)
    assert first.pulse_count > 0
    await site.broker.restart()
    await until(lambda: len(births(site)) == 2)
    second = births(site)[1]
    assert (second.instance, second.epoch) == (first.instance, first.epoch)
    assert second.pulse_anchor != first.pulse_anchor
    assert second.utc_ns > first.utc_ns
    assert node.mesh.peers().peers[0].own


async def test_the_birth_follows_the_capabilities_and_a_change_of_nothing_is_not_told(site: Site) -> None:
    views: list[DriverView] = []
    key, chain = site.fleet.member("a")
    node = SiteNode(site, "a", key, chain, site.fleet.trust())
    node.mesh.announcer._capabilities = type("Drivers", (), {"drivers": lambda _self: views})()
    await site.join(node)
    await until(lambda: len(births(site)) == 1)
    views.append(driver("qpu"))
    node.mesh.capabilities_changed()
    await until(lambda: len(births(site)) == 2)
    assert [each.name for each in births(site)[1].capabilities] == ["qpu"]
    node.mesh.capabilities_changed()
    await asyncio.sleep(0.5)
    assert len(births(site)) == 2
    views[0] = driver("qpu", "down")
    node.mesh.capabilities_changed()
    await until(lambda: len(births(site)) == 3)
    assert births(site)[2].capabilities == ()


async def test_a_birth_is_later_than_the_one_before_even_where_the_wall_clock_steps_back(site: Site) -> None:
    node = await site.node("a")
    await until(lambda: len(births(site)) == 1)
    ahead = births(site)[0].utc_ns + 3_600 * 10**9
    node.mesh.announcer._spoken_utc_ns = ahead
    node.mesh.announcer.look(force=True)
    await until(lambda: len(births(site)) == 2)
    assert births(site)[1].utc_ns == ahead + 1


async def test_a_node_that_stops_takes_leave_and_one_that_is_killed_is_found_dead(site: Site) -> None:
    a, b = await site.pair()
    c = await site.node("c")
    await until(lambda: c.state("a") is PeerState.ALIVE and a.state("c") is PeerState.ALIVE)
    await b.stop()
    await until(lambda: a.state("b") is PeerState.LEFT and c.state("b") is PeerState.LEFT)
    await c.kill()
    await until(lambda: a.state("c") is PeerState.DEAD)
    assert a.metrics.value("qedge_peers", ("dead",)) == 1


async def test_a_node_that_comes_back_is_seen_with_its_new_epoch(site: Site) -> None:
    a, b = await site.pair()
    await b.kill()
    await until(lambda: a.state("b") is PeerState.DEAD)
    key, chain = site.fleet.member("b")
    await site.join(SiteNode(site, "b", key, chain, site.fleet.trust(), epoch=2))
    await until(lambda: a.state("b") is PeerState.ALIVE)
    assert next(each.epoch for each in a.mesh.peers().peers if each.node == "b") == 2


async def test_two_boxes_with_one_identity_are_found_out_by_themselves_and_by_their_peers(site: Site) -> None:
    a, b = await site.pair()
    key, chain = site.fleet.member("b")
    clone = await site.join(SiteNode(site, "b", key, chain, site.fleet.trust(), epoch=1))
    await until(lambda: a.state("b") is PeerState.DUPLICATE)
    await until(lambda: b.mesh.duplicate or clone.mesh.duplicate)
    await until(lambda: a.state("b") is PeerState.ALIVE)
    await until(lambda: b.mesh.announcer.silent != clone.mesh.announcer.silent)


async def test_peers_are_told_of_to_whoever_wants_to_know(site: Site) -> None:
    a = await site.node("a")
    told: list[int] = []
    a.mesh.on_peers(lambda: told.append(len(a.mesh.peers().peers)))
    await site.node("b")
    await until(lambda: a.state("b") is PeerState.ALIVE)
    assert told


async def test_pinging_gives_one_time_for_each_round_trip_and_names_that_are_none_are_not_asked(site: Site) -> None:
    a, _ = await site.pair()
    view = await a.mesh.ping("b", 5)
    assert (view.node, len(view.rtt_ms), view.path) == ("b", 5, "mqtt")
    assert len((await a.mesh.ping("a", 2)).rtt_ms) == 2
    with pytest.raises(QedgeError) as error:
        await a.mesh.ping("no name", 1)
    assert error.value.code == "job.bad_request"


async def test_the_host_is_sampled_and_told(site: Site) -> None:
    a = await site.node("a")
    assert a.mesh.host.view().memory_total_bytes > 0
    assert a.metrics.value("qedge_host_memory_total_bytes") > 0
    before = a.mesh.host.sampled_ns
    await a.mesh.host.sample()
    assert a.mesh.host.sampled_ns > before


async def test_revoked_keys_reach_every_node_once_and_newcomers_too(site: Site) -> None:
    a, b = await site.pair()
    signed = site.fleet.revoke("f" * 32)
    assert await a.mesh.take_revocations(signed)
    assert not await a.mesh.take_revocations(signed)
    await until(lambda: b.trust.is_revoked("f" * 32))
    await until(lambda: (a.kept, b.kept) == ([1], [1]))
    c = await site.node("c")
    await until(lambda: c.trust.is_revoked("f" * 32))


async def test_a_revoked_peer_loses_its_session_though_the_disk_is_full_and_the_list_is_written_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "_WRITE_AGAIN_S", 0.01)
    a, b = await site.pair()
    await a.mesh.ping("b", 1)
    keep, refusals = a._keep, 2

    async def full_twice(fleet: str, serial: int, signed: bytes) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise QedgeError("store.disk_full", "Full.")
        await keep(fleet, serial, signed)

    a.mesh._revocations._keep = full_twice
    key_of_b = next(each.key_id for each in a.mesh.peers().peers if each.node == "b")
    assert await a.mesh.take_revocations(site.fleet.revoke(key_of_b))
    assert a.state("b") is PeerState.REVOKED
    assert a.sessions.view("b").state == "none"
    await until(lambda: a.kept == [1])
    assert b.trust.serial == 1


async def test_a_small_fleet_beats_at_the_smallest_period() -> None:
    site = Site()
    try:
        node = await site.node("a")
        assert node.mesh._membership.period_s() == pytest.approx(0.4)
        pulses = len(site.broker.of(Channel.PULSE, "a"))
        await asyncio.sleep(1)
        assert 1 <= len(site.broker.of(Channel.PULSE, "a")) - pulses <= 4
    finally:
        await site.close()


async def test_births_name_the_policy_and_the_list_of_devices_of_a_node_and_peers_see_every_change(site: Site) -> None:
    a, b = await site.pair()
    changes: list[None] = []
    a.mesh.on_peers(lambda: changes.append(None))

    def seen() -> tuple[int, int]:
        [view] = [each for each in a.mesh.peers().peers if each.node == "b"]
        return view.policy_serial, view.devices_serial

    assert seen() == (0, 0)
    b.mesh.announcer.serials = lambda: Serials(12, 34)
    b.mesh.capabilities_changed()
    await until(lambda: seen() == (12, 34))
    assert changes
