"""Thousands of histories of deaths, pauses, partitions and lost, repeated and reordered words: each job ends, once."""

from __future__ import annotations

import pytest

from tests.world.ledger_world import SECOND, World

FAST = 40
LONG = 5000
SHARDS = 5


def history(seed: int) -> World:
    """Let jobs come in while nodes die, are paused and are cut off; then heal everything and wait."""
    world = World(seed)
    rng = world.rng
    names = sorted(world.nodes)
    number = 0
    for _ in range(24):
        for name in names:
            node = world.nodes[name]
            if node.up and not node.paused and rng.random() < 0.4:
                node.accept(f"j{number}")
                number += 1
        blow, name = rng.random(), rng.choice(names)
        node = world.nodes[name]
        if blow < 0.12 and node.up:
            node.kill()
            world.gone[name] = world.now
        elif blow < 0.3 and not node.up:
            node.start()
            world.gone.pop(name, None)
        elif blow < 0.4 and node.up and not node.paused:
            node.paused = True
        elif blow < 0.6 and node.paused:
            node.resume()
        elif blow < 0.7:
            side = set(rng.sample(names, 2))
            world.cut = {frozenset((one, other)) for one in side for other in names if other not in side}
        elif blow < 0.85:
            world.cut = set()
        world.run(rng.uniform(0.05, 1.2))
    world.cut = set()
    world.loss = world.twice = 0.0
    for node in world.nodes.values():
        if not node.up:
            node.start()
        elif node.paused:
            node.resume()
    world.gone.clear()
    world.run(30)
    world.check_end()
    return world


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(FAST), id="short"),
        *(
            pytest.param(
                range(FAST + shard, LONG, SHARDS),
                id=f"long-{shard}",
                marks=[pytest.mark.long, pytest.mark.timeout(900)],
            )
            for shard in range(SHARDS)
        ),
    ],
)
def test_no_job_is_lost_and_none_ends_twice_whatever_happens(seeds: range) -> None:
    adoptions = runs = jobs = 0
    for seed in seeds:
        world = history(seed)
        adoptions += world.adoptions
        runs += world.runs
        jobs += len(world.accepted)
    # the histories are hard enough to mean something
    assert adoptions > len(seeds) // 4
    assert jobs > 20 * len(seeds)
    assert runs >= jobs


def test_a_job_is_regained_within_the_lease_and_a_second() -> None:
    worst = 0.0
    for seed in range(24):
        world = World(seed, loss=0.0, twice=0.0)
        names = sorted(world.nodes)
        for index in range(12):
            world.nodes[names[0]].accept(f"j{index}")
        world.run(world.rng.uniform(0.05, 0.5))
        victim = world.nodes[world.rng.choice(names[1:])]
        victim.kill() if seed % 2 else setattr(victim, "paused", True)
        world.gone[victim.name] = world.now
        world.run(5)
        worst = max([worst, *world.regained])
    assert 0 < worst <= 2.0
    assert SECOND == 1_000_000_000


def test_a_seed_repeats_its_history() -> None:
    one, other = history(7), history(7)
    assert (one.grants, one.ends, one.runs) == (other.grants, other.ends, other.runs)
