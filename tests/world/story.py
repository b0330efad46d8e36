"""The story that fleets of many sites go through in the world: join, churn, part and heal."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from tests.world.state_world import FleetWorld, SiteStory, SiteWorld
from tests.world.world import SECOND_NS, Network

JOIN_LIMIT_S: Final = 60.0
HEAL_LIMIT_S: Final = 180.0
REST_S: Final = 4.0
CUT_AT_S: Final = 15.0
CHATTER_MIN: Final = 1.0
STEP_S: Final = 0.5
"""How often it is looked whether all agree, which takes longer than to let them go on for that time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`sites` of `size` nodes; seconds of each part; `churn_min` is the share of nodes that change in a minute.

    In every `torn`-th site the partition goes through the site itself, besides the one between the sites.
    """

    sites: int
    size: int
    churn_s: float = 15.0
    churn_min: float = 0.05
    parted_s: float = 12.0
    torn: int = 5
    cut_s: float = 25.0
    """The lines between sites are cut from second 15 on for this time; heralds speak meanwhile."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one run shows; seconds of virtual time, messages a minute for one node, entries that one node holds."""

    nodes: int
    joined_s: float
    site_healed_s: float
    fleet_healed_s: float
    messages_min: float
    most_messages_min: float
    site_entries: int
    fleet_entries: int
    changes: int
    false_deaths: int


def play_site(name: str, plan: Plan, seed: int, *, torn: bool) -> SiteStory:
    """Run one site through its story."""
    world = SiteWorld(name, Random(seed), Network())
    world.start_all(plan.size, within_s=1.0)
    world.run(1.0)
    joined_s = 1.0 + world.run_until(world.settled, JOIN_LIMIT_S, STEP_S)
    world.run(REST_S)
    nodes = list(world.nodes.values())
    before = [(node.sent, node.received) for node in nodes]
    begun_ns = world.now_ns
    world.chatter(CHATTER_MIN, plan.churn_s)
    changes = churn(world, plan.churn_s, plan.churn_min)
    scale = 60 * SECOND_NS / (world.now_ns - begun_ns)
    pairs = list(zip(nodes, before, strict=True))
    sent = [scale * (node.sent - old) for node, (old, _) in pairs if node.up]
    received = [scale * (node.received - old) for node, (_, old) in pairs if node.up]
    healed_s = world.run_until(world.settled, HEAL_LIMIT_S, STEP_S)
    if torn:
        world.split()
        world.chatter(CHATTER_MIN * 6, plan.parted_s)
        world.run(plan.parted_s)
        world.heal(bridge=False)
        healed_s = max(healed_s, world.run_until(world.settled, HEAL_LIMIT_S, STEP_S))
    else:
        world.run(plan.parted_s)
    return SiteStory(
        name,
        tuple(world.nodes),
        world.spoken,
        joined_s,
        healed_s,
        sum(sent) / len(sent),
        sum(received) / len(received),
        max(received),
        max(len(world.holders[name].replica) for name in world.nodes),
        len(world.false_deaths),
        changes,
    )


def churn(world: SiteWorld, seconds: float, share_min: float) -> int:
    """Let a share of the nodes die, restart, leave or join, in turn; returns how many did."""
    changes = max(4, round(len(world.nodes) * share_min * seconds / 60))
    for index in range(changes):
        name = world.rng.choice([name for name, node in world.nodes.items() if node.birth is not None])
        if index % 4 == 0:
            world.kill(name)
        elif index % 4 == 1:
            world.restart(name, world.rng.choice((0.3, 5.0)))
        elif index % 4 == 2:
            world.leave(name)
        else:
            world.start(f"{world.name}-new{index}")
        world.run(seconds / changes)
    return changes


def play_number(plan: Plan, seed: int, number: int) -> SiteStory:
    """Run the site with this number."""
    story = play_site(f"s{number:03d}", plan, seed * 1000 + number, torn=number % plan.torn == 0)
    gc.collect()  # a site is full of circles, and the next one wants its memory
    return story


def play(
    plan: Plan,
    seed: int,
    tell: Callable[[str], None] = lambda _line: None,
    each: Callable[[Callable[[int], SiteStory], Iterable[int]], Iterable[SiteStory]] = map,
) -> Report:
    """Run all sites, by `each` (which may be that of a pool), then the fleet with what their heralds said."""
    stories: list[SiteStory] = []
    for story in each(partial(play_number, plan, seed), range(plan.sites)):
        stories.append(story)
        tell(f"{len(stories)} of {plan.sites} sites; {story.name} healed in {story.healed_s:.1f} s")
    stories.sort(key=lambda story: story.name)
    fleet = FleetWorld(Random(seed), {story.name: story.members for story in stories})
    for story in stories:
        fleet.play(story.spoken)
    fleet.run(CUT_AT_S)
    tell(f"fleet: {len(fleet.nodes)} nodes, each holds {len(next(iter(fleet.nodes.values())).holder.replica)} sites")
    fleet.cut()
    before = traffic(fleet)
    fleet.run(plan.cut_s)
    if fleet.alike():
        raise AssertionError("nothing happened while the lines were cut")
    fleet.heal()
    healed_s = fleet.run_until(fleet.alike, HEAL_LIMIT_S)
    tell(f"fleet: healed in {healed_s:.1f} s")
    fleet.run(30.0)
    fleet_min = (traffic(fleet) - before) / len(fleet.nodes) * 60 / (plan.cut_s + healed_s + 30)
    return Report(
        len(fleet.nodes),
        max(story.joined_s for story in stories),
        max(story.healed_s for story in stories),
        healed_s,
        sum(story.sent_min + story.received_min for story in stories) / len(stories) + fleet_min,
        max(story.most_min for story in stories) + fleet_min,
        max(story.entries for story in stories),
        max(len(node.holder.replica) for node in fleet.nodes.values()),
        sum(story.churned for story in stories),
        sum(story.false_deaths for story in stories),
    )


def traffic(fleet: FleetWorld) -> int:
    """Count what all nodes have sent and received of what the fleet shares."""
    return sum(node.sent + node.received for node in fleet.nodes.values())
