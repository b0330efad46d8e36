"""Claims about what nodes and sites share, in virtual time; the long one repeats them with a thousand nodes."""

from __future__ import annotations

from random import Random

import pytest

from tests.world.state_world import FleetWorld, SiteWorld
from tests.world.story import Plan, play
from tests.world.world import Network

SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 6))]


def site(count: int, seed: int, network: Network | None = None) -> SiteWorld:
    world = SiteWorld("site", Random(seed), network)
    world.start_all(count)
    world.run(1.0)
    world.run_until(world.settled, limit_s=30)
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_news_is_everywhere_within_a_second(seed: int) -> None:
    world = site(20, seed)
    node = world.nodes["site-003"]
    world.say(node, "calibration", "qpu", b"new")
    assert world.run_until(world.alike, limit_s=5, step_s=0.02) <= 1.0


@pytest.mark.parametrize("bridge", [True, False], ids=["bridge", "reconnect"])
def test_a_site_that_was_torn_in_two_holds_one_map_soon_after(bridge: bool) -> None:
    world = site(20, 3)
    world.split()
    world.chatter(20, 10)
    world.run(10)
    assert world.alike()
    world.heal(bridge)
    assert world.run_until(world.settled, limit_s=60) <= 40


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_lossy_broker_drops_is_found_by_comparing(seed: int) -> None:
    world = site(16, seed, Network(loss=0.2))
    world.chatter(30, 10)
    world.run(10)
    assert world.run_until(world.alike, limit_s=90) <= 80


def test_a_newcomer_gets_all_that_is_held() -> None:
    world = site(16, 4)
    world.run(20)
    world.start("site-new")
    world.run(1.0)
    assert world.run_until(world.settled, limit_s=30) <= 10
    assert len(world.holders["site-new"].replica) == len(world.holders["site-000"].replica)


def test_what_a_dead_node_said_stays_and_the_first_that_lives_speaks_for_the_site() -> None:
    world = site(8, 5)
    world.run(31)
    world.kill("site-000")
    world.run(40)
    assert world.spoken[0][1] == "site-000"
    assert world.spoken[-1][1] == "site-001"
    assert world.spoken[-1][2].nodes == 7
    held = [entry.writer for entry in world.holders["site-001"].replica.under("capability")]
    assert "site-000" in held


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
def test_sites_that_were_cut_off_come_to_hold_the_same(seed: int) -> None:
    report = play(Plan(sites=6, size=8, torn=3), seed)
    assert report.site_healed_s <= 40
    assert report.fleet_healed_s <= 75
    assert report.false_deaths == 0


def test_nodes_that_hold_the_same_compare_seldom() -> None:
    world = FleetWorld(Random(1), {"a": ["a1", "a2", "a3", "a4"], "b": ["b1"]})
    world.run(40)
    assert world.alike()
    assert all(node.sent <= 12 for node in world.nodes.values() if node.site == "a")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_thousand_nodes_in_five_sites_live_through_churn_and_partitions() -> None:
    report = play(Plan(sites=5, size=200), 1)
    assert report.nodes >= 950
    assert report.joined_s <= 6
    assert report.site_healed_s <= 60
    assert report.fleet_healed_s <= 60
    assert report.most_messages_min <= 9000
    assert report.false_deaths == 0
