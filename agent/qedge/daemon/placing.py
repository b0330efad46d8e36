"""Makes what chooses nodes for jobs, from the parts of one daemon."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from qedge.daemon.adapters import MeshPeers
from qedge.daemon.peers import Tools
from qedge.engine.service import EngineService
from qedge.mesh.service import MeshService
from qedge.orchestrator.fairness.health import Fitness, HealthJudge
from qedge.orchestrator.placement.service import PlacementService
from qedge.wire.node import DriverView

_UNIFORM: Final = random.SystemRandom().random


def make_placement(
    tools: Tools,
    engine: EngineService,
    peers: MeshPeers,
    mesh: MeshService,
    drivers: Callable[[], Sequence[DriverView]],
) -> PlacementService:
    """Make it, and let the job service ask it which classes it takes."""
    host, judge, config = tools.host, HealthJudge(), tools.config

    def fitness() -> Fitness:
        full = tools.store.disk_full
        return judge.judge(mesh.host.view(), drivers(), disk_full=full, now_ns=tools.clock.now_ns())

    placement = PlacementService(
        config.placement,
        engine,
        peers,
        own=tools.me.node,
        epoch=tools.me.epoch,
        free_memory_bytes=lambda: int(config.engine.memory_share * host.available_bytes()),
        fitness=fitness,
        clock=tools.clock,
        metrics=tools.metrics,
        uniform=_UNIFORM,
    )
    engine.reception.gate = placement.gate
    return placement
