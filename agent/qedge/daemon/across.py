"""The parts of one daemon that make many nodes one: where jobs run, who owns them, parts of jobs, checks on results."""

from __future__ import annotations

import random
from dataclasses import dataclass

from qedge.base.service import Service
from qedge.daemon.adapters import MeshPeers
from qedge.daemon.node import Node
from qedge.daemon.peers import Tools
from qedge.daemon.placing import make_placement
from qedge.engine.service import EngineService
from qedge.mesh.service import MeshService
from qedge.orchestrator.elsewhere import Ways
from qedge.orchestrator.ledger.service import Ledger, make_ledger
from qedge.orchestrator.placement.service import PlacementService
from qedge.orchestrator.results.service import SpotChecks, Surroundings
from qedge.orchestrator.service import JobDesk
from qedge.orchestrator.splitting.service import SplitService


@dataclass(frozen=True, slots=True)
class AcrossParts:
    """What gives jobs to other nodes and runs theirs, and the desk where clients ask for jobs of any node."""

    placement: PlacementService
    ledger: Ledger
    split: SplitService
    checks: SpotChecks
    desk: JobDesk

    @property
    def services(self) -> tuple[Service, ...]:
        """Return them in the order of their start."""
        return self.placement, *self.ledger.services, self.split, self.checks


def make_across(tools: Tools, engine: EngineService, peers: MeshPeers, mesh: MeshService, node: Node) -> AcrossParts:
    """Make them, and tell the engine and the node of them."""
    config = tools.config
    around = Surroundings(
        tools.me.node,
        lambda: tuple(peers.nodes()),
        lambda: engine.reception.can_run,
        lambda: engine.is_busy,
        random.SystemRandom().random,
    )
    checks = SpotChecks(config.results, engine, tools.store, around, clock=tools.clock, metrics=tools.metrics)
    placement = make_placement(tools, engine, peers, mesh, node.drivers)
    ledger = make_ledger(
        tools.me.node,
        config.engine,
        config.ledger,
        engine,
        tools.store,
        peers,
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
        placer=placement,
        standings=checks,
    )
    split = SplitService(
        engine,
        tools.store,
        engine.changes,
        node_name=tools.me.node,
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
    )
    placement.barred = lambda: checks.barred
    placement.draining = lambda: not ledger.drain.is_open
    engine.attach(Ways(ledger.owner, split))
    node.placement = placement
    node.attach_checks(checks)
    return AcrossParts(placement, ledger, split, checks, JobDesk(engine, ledger.keeping, ledger.drain, tools.clock))
