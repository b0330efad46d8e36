"""Claims about whole fleets, checked in virtual time; the long ones repeat them with a thousand nodes."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.mesh.rhythm import GROW_ABOVE
from qedge.wire.mesh import PeerState
from tests.world.world import Network, Node, World

LOSSY = Network(loss=0.05)
MOST_A_MINUTE = 60 * GROW_ABOVE / 0.4
"""Heartbeats that a node receives a minute at most, in a fleet of up to 3200 nodes."""
OTHERS = 1.05
"""Births, probes and what the network repeats."""
SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 6))]


def fleet(count: int, seed: int = 1, network: Network | None = None) -> World:
    """Start a fleet and let it agree."""
    world = World(Random(seed), network)
    world.start_all(count)
    world.run(1.0)
    world.run_until(world.agreed, limit_s=20)
    world.run(3.0)
    return world


def states(world: World, name: str) -> set[PeerState | None]:
    return {node.membership.state(name) for node in world.nodes.values()}


def death_seconds(world: World, name: str, since_ns: int) -> list[float]:
    """Return how long after `since_ns` each other node called a node dead."""
    return [(at_ns - since_ns) / 1e9 for node in world.nodes.values() for at_ns, dead in node.deaths if dead == name]


@pytest.mark.parametrize("seed", SEEDS)
def test_everybody_sees_everybody_soon_after_a_cold_start(seed: int) -> None:
    world = World(Random(seed))
    world.start_all(60, within_s=1.0)
    world.run(1.0)
    assert world.run_until(world.agreed, limit_s=5) < 1.0


def test_a_newcomer_and_the_fleet_know_each_other_within_one_period() -> None:
    world = fleet(40)
    world.run(30)
    world.start("new")
    assert world.run_until(world.agreed, limit_s=5, step_s=0.02) <= 0.4 + 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dead_node_is_dead_for_all_within_a_second_and_six_tenths(seed: int) -> None:
    world = fleet(40, seed)
    killed_ns = world.now_ns
    world.kill("n7")
    world.run(2.0)
    seconds = death_seconds(world, "n7", killed_ns)
    assert len(seconds) == 39
    assert max(seconds) <= 1.6
    assert world.agreed()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_live_node_is_called_dead_where_one_message_in_twenty_is_lost(seed: int) -> None:
    world = fleet(50, seed, LOSSY)
    world.run(60)
    assert world.false_deaths == []
    assert sum(node.probes for node in world.nodes.values()) > 0


@pytest.mark.parametrize("bridge", [True, False], ids=["bridge", "reconnect"])
def test_a_partition_makes_two_fleets_and_heals_to_one(bridge: bool) -> None:
    world = fleet(40)
    world.split()
    assert world.run_until(world.agreed, limit_s=10) <= 2.0
    world.run(30)
    world.heal(bridge)
    assert world.run_until(world.agreed, limit_s=10) <= 3.0
    assert world.false_deaths == []


def test_a_broker_that_lost_everything_costs_nobody_their_place() -> None:
    world = fleet(40)
    world.lose_broker(outage_s=0.2)
    world.run(1.4)
    assert world.run_until(world.agreed, limit_s=10) <= 1.0
    world.start("late")
    assert world.run_until(world.agreed, limit_s=10) <= 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fleet_that_changes_all_the_time_agrees_whenever_it_rests(seed: int) -> None:
    world = fleet(40, seed, LOSSY)
    churn(world, minutes=2, share=0.1)
    assert world.run_until(world.agreed, limit_s=10) <= 3.0
    assert world.false_deaths == []


def churn(world: World, minutes: float, share: float) -> None:
    """Let `share` of the nodes a minute die, restart, leave or join, in turn."""
    changes = round(len(world.nodes) * share * minutes)
    for index in range(changes):
        name = world.rng.choice([name for name, node in world.nodes.items() if node.birth is not None])
        if index % 4 == 0:
            world.kill(name)
        elif index % 4 == 1:
            world.restart(name, world.rng.choice((0.3, 5.0)))
        elif index % 4 == 2:
            world.leave(name)
        else:
            world.start(f"new{index}")
        world.run(minutes * 60 / changes)


def test_a_node_that_left_is_gone_at_once_and_nobody_calls_it_dead() -> None:
    world = fleet(30)
    world.leave("n3")
    world.run(0.3)
    assert states(world, "n3") == {PeerState.LEFT}
    world.run(5)
    assert states(world, "n3") == {PeerState.LEFT}


def test_a_restart_is_followed_without_a_death() -> None:
    world = fleet(30)
    world.restart("n3", 0.3)
    world.run(2.0)
    assert world.agreed()
    assert {
        peer.epoch for node in world.nodes.values() for peer in node.membership.peers(0, 0) if peer.node == "n3"
    } == {2}
    assert not any(name == "n3" for node in world.nodes.values() for _, name in node.deaths)


@pytest.mark.parametrize("epoch", [1, 2], ids=["same count", "restored with a later count"])
def test_two_boxes_of_one_identity_notice_and_are_noticed(epoch: int) -> None:
    world = fleet(30)
    clone: Node = world.clone("n5", epoch)
    world.run(4.0)
    assert world.nodes["n5"].own_doubles + clone.own_doubles > 0
    others = [node for name, node in world.nodes.items() if name != "n5"]
    assert all(node.doubles == {"n5"} for node in others)
    assert {node.membership.state("n5") for node in others} == {PeerState.DUPLICATE}


def test_a_copy_that_starts_from_an_older_backup_notices_that_it_is_not_alone() -> None:
    world = fleet(30)
    world.restart("n5", 0.3)
    world.run(3.0)
    clone = world.clone("n5", 1)
    world.run(2.0)
    assert clone.own_doubles + world.nodes["n5"].own_doubles > 0


ACTIONS = st.sampled_from(["kill", "restart", "leave", "join", "clone", "split", "heal", "lose broker", "wait"])


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.lists(ACTIONS, max_size=8))
def test_whatever_happens_epochs_never_fall_and_rest_brings_agreement(seed: int, actions: list[str]) -> None:
    world = World(Random(seed), LOSSY)
    world.start_all(8)
    world.run(2.0)
    epochs: dict[tuple[str, str], int] = {}
    for number, action in enumerate(actions):
        act(world, action, number)
        for _ in range(4):
            world.run(world.rng.uniform(0.05, 0.8))
            for node in world.nodes.values():
                for peer in node.membership.peers(world.now_ns, 0):
                    key = (f"{node.name}/{node.instance.hex()}", peer.node)
                    assert peer.epoch >= epochs.get(key, 0)
                    epochs[key] = peer.epoch
    act(world, "heal", 99)
    for clone in world.clones:
        world.silence(clone)
    world.run(2.0)
    # The box that is left has stepped back; it comes back by a new start, whatever epoch its copy had reached.
    for name in {clone.name for clone in world.clones} & set(world.nodes):
        world.restart(name, 0.5)
    world.run(4.0)
    assert world.run_until(world.agreed, limit_s=20) <= 10.0


def act(world: World, action: str, number: int) -> None:
    """Do one thing to a small fleet, where it is possible."""
    up = [name for name, node in world.nodes.items() if node.birth is not None]
    name = world.rng.choice(up) if up else ""
    if action == "kill" and len(up) > 3:
        world.kill(name)
    elif action == "leave" and len(up) > 3:
        world.leave(name)
    elif action == "restart" and name:
        world.restart(name, 0.5)
    elif action == "join":
        world.start(f"new{number}")
    elif action == "clone" and name and not world.clones and len(world.brokers) == 1:
        world.clone(name, world.nodes[name].epoch)
    elif action == "split" and len(world.brokers) == 1:
        world.split()
    elif action == "heal" and len(world.brokers) == 2:
        world.heal(bridge=world.rng.random() < 0.5)
    elif action == "lose broker" and len(world.brokers) == 1:
        world.lose_broker(0.2)


@pytest.mark.parametrize("count", [10, 100])
def test_what_a_node_sends_and_receives_stays_below_the_documented_bound(count: int) -> None:
    check_traffic(fleet(count))


def check_traffic(world: World, seconds: float = 10.0) -> None:
    sent, received, most = world.traffic(seconds)
    period_s = min(node.membership.period_s() for node in world.nodes.values())
    # Two heartbeats in a row that are lost make a suspect; a probe or two, and an answer to those of others, follow.
    suspects = len(world.nodes) * world.network.loss**2 * 60 / period_s
    assert sent <= (60 / period_s + 3 * suspects) * OTHERS + 2 * 60 / seconds
    assert received <= len(world.nodes) * 60 / period_s * OTHERS
    assert most <= MOST_A_MINUTE * OTHERS


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_thousand_nodes_agree_lose_ten_and_part_and_heal() -> None:
    world = World(Random(1), LOSSY)
    world.start_all(1000, within_s=1.0)
    world.run(1.0)
    assert world.run_until(world.agreed, limit_s=20) < 2.0
    world.run(5.0)
    period_s = max(node.membership.period_s() for node in world.nodes.values())
    assert period_s == 12.8
    check_traffic(world, 2 * period_s)
    killed_ns = world.now_ns
    names = world.rng.sample(sorted(world.nodes), 10)
    for name in names:
        world.kill(name)
    world.run(3.2 * period_s + 1.0)
    for name in names:
        seconds = death_seconds(world, name, killed_ns)
        assert len(seconds) == 990
        assert max(seconds) <= 3.2 * period_s + 0.6
    assert world.false_deaths == []
    world.split()
    world.run(30)
    # A thousand nodes that lose messages have a suspect among a million pairs at any time; agreement is without loss.
    world.network = Network()
    world.heal(bridge=False)
    assert world.run_until(world.agreed, limit_s=60) <= 2 * period_s


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(20))
def test_many_fleets_of_sixty_live_through_churn_and_loss(seed: int) -> None:
    world = fleet(60, seed, LOSSY)
    churn(world, minutes=2, share=0.1)
    assert world.run_until(world.agreed, limit_s=10) <= 5.0
    assert world.false_deaths == []
