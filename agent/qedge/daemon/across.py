"""The parts of one daemon that make many nodes one: jobs that others run, jobs in parts, checks on what comes back."""

from __future__ import annotations

import random

from qedge.base.service import Service
from qedge.daemon.adapters import MeshPeers
from qedge.daemon.node import Node
from qedge.daemon.peers import Tools
from qedge.daemon.placing import make_placement
from qedge.engine.errands import ErrandService
from qedge.engine.forwarding import ForwardService
from qedge.engine.service import EngineService
from qedge.mesh.service import MeshService
from qedge.orchestrator.elsewhere import Ways
from qedge.orchestrator.results.service import SpotChecks, Surroundings
from qedge.orchestrator.splitting.service import SplitService


def make_across(
    tools: Tools, engine: EngineService, peers: MeshPeers, mesh: MeshService, node: Node
) -> tuple[Service, ...]:
    """Make what gives jobs to other nodes and runs theirs, and tell the engine and the node of it."""
    forward = ForwardService(
        tools.config.engine,
        tools.store,
        peers,
        engine.changes,
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
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
    engine.attach(Ways(forward, split))
    around = Surroundings(
        tools.me.node,
        lambda: tuple(peers.nodes()),
        lambda: any(driver.kind == "qpu" and driver.operating_state == "up" for driver in node.drivers()),
        lambda: engine.is_busy,
        random.SystemRandom().random,
    )
    checks = SpotChecks(tools.config.results, engine, tools.store, around, clock=tools.clock, metrics=tools.metrics)
    node.attach_checks(checks)
    node.placement = make_placement(tools, engine, forward, peers, mesh, node.drivers)
    return node.placement, forward, split, ErrandService(engine, tools.store, peers), checks
