"""Roll-outs over many nodes in virtual time: a version that fails stops by itself in its first wave."""

from __future__ import annotations

import os
from random import Random

import pytest

from qedge.client.fleet_tool.model import NodeStanding
from qedge.client.fleet_tool.rollout import Rollout
from qedge.client.fleet_tool.rollout_view import view_of
from tests.world.rollout_world import NEW, SECOND, RolloutWorld, Version, standing

WAVES = "10,5%,25%,100%"
SIZE = 2000
SEED = int(os.environ.get("QEDGE_WORLD_SEED", "1"))


def test_a_good_version_reaches_every_node_that_is_there_and_those_that_come_back_in_time() -> None:
    world = RolloutWorld(SIZE, Random(SEED), Version(), away=0.05)
    course = world.play(WAVES, soak_s=60, back=True)
    assert course.phase == "done"
    assert sum(course.waves) == course.reached == SIZE
    world.run_until(world.now_ns + 2400 * SECOND)  # the last of those that were away are back
    assert all(node.version == NEW for node in world.nodes.values() if standing(world, node.name) is NodeStanding.UP)
    assert all(node.began <= 1 for node in world.nodes.values())


@pytest.mark.parametrize("version", [Version(refused=True), Version(dies_after_s=10.0), Version(dies_after_s=0.0)])
def test_a_failing_version_reaches_no_more_than_its_first_wave(version: Version) -> None:
    world = RolloutWorld(SIZE, Random(SEED), version)
    course = world.play(WAVES, soak_s=60, back=True)
    assert course.phase == "stopped"
    assert course.began <= course.reached == course.waves[0] == 10


def test_the_nodes_of_the_failed_wave_that_are_still_there_run_the_old_version_again() -> None:
    world = RolloutWorld(SIZE, Random(SEED), Version(dies_after_s=10.0, every=4))
    course = world.play("40,100%", soak_s=60, back=True)
    assert (course.phase, course.reached) == ("stopped", 40)
    assert course.began > 30
    assert all(node.version != NEW for node in world.nodes.values() if node.up)


def test_what_was_written_down_leads_to_the_same_end() -> None:
    world = RolloutWorld(200, Random(SEED), Version(refused=True))
    world.play("5,100%", soak_s=30, back=True)
    assert world.rollout is not None
    again = Rollout(world.rollout.plan)
    assert all(again.take(event) for event in world.events)
    assert view_of(again) == view_of(world.rollout)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_ten_thousand_nodes_get_a_good_version_and_a_failing_one_stops(seed: int) -> None:
    assert RolloutWorld(10_000, Random(seed), Version()).play(WAVES, soak_s=60, back=True).phase == "done"
    course = RolloutWorld(10_000, Random(seed), Version(dies_after_s=20.0)).play(WAVES, soak_s=60, back=True)
    assert course.reached == course.waves[0]
