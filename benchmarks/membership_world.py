"""How fast a fleet agrees, and what that costs, in the virtual world of the tests."""

from __future__ import annotations

import gc
import random
from dataclasses import dataclass

from tests.world.world import Network, World


@dataclass(frozen=True, slots=True)
class WorldReport:
    """What one run shows; seconds of virtual time, messages a minute for one node (heartbeats, births, probes).

    `converged_s`: from the first start to every node seeing all others alive; `islands_s`, `healed_s`: the same after a
    cut into two islands (each sees exactly itself) and after its end; `received_max`: of the node that receives most.
    """

    nodes: int
    seed: int
    period_s: float
    converged_s: float
    sent: float
    received: float
    received_max: float
    islands_s: float
    healed_s: float
    false_deaths: int


def converge(nodes: int, seed: int, loss: float = 0.0, cut_s: float = 30.0) -> WorldReport:
    """Start `nodes` nodes within one second, let them agree, cut the fleet in two for `cut_s` at least, and heal."""
    gc.collect()
    gc.disable()
    try:
        world = World(random.Random(seed), Network(loss=loss))
        world.start_all(nodes, within_s=1.0)
        world.run(1.0)
        converged_s = 1.0 + world.run_until(world.agreed, limit_s=60)
        world.run(5.0)
        period_s = max(node.membership.period_s() for node in world.nodes.values())
        sent, received, most = world.traffic(max(5.0, min(2 * period_s, 30.0)))
        false_deaths = len(world.false_deaths)
        world.split()
        islands_s = world.run_until(world.agreed, limit_s=180)
        world.run(max(0.0, cut_s - islands_s))
        world.heal(bridge=False)
        healed_s = world.run_until(world.agreed, limit_s=120)
    finally:
        gc.enable()
    return WorldReport(nodes, seed, period_s, converged_s, sent, received, most, islands_s, healed_s, false_deaths)
