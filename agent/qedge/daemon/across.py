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
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.service import MeshService
from qedge.orchestrator.elsewhere import Ways
from qedge.orchestrator.ledger.service import Ledger, make_ledger
from qedge.orchestrator.placement.service import PlacementService
from qedge.orchestrator.receipts.service import ReceiptService, Seal
from qedge.orchestrator.results.service import SpotChecks, Surroundings
from qedge.orchestrator.service import JobDesk
from qedge.orchestrator.splitting.service import SplitService
from qedge.wire.receipts import Receipt
from qedge.wire.standing import Standing


class ResultsDesk:
    """Fills `ResultsPort` of the web room."""

    def __init__(self, checks: SpotChecks, receipts: ReceiptService) -> None:
        self._checks = checks
        self._receipts = receipts

    def standings(self) -> tuple[Standing, ...]:
        """Return what is known of every node, by name."""
        return self._checks.standings()

    def pardon(self, node: str) -> Standing:
        """Give a node jobs again; raises `job.no_node`."""
        return self._checks.pardon(node)

    async def receipt(self, job_id: str) -> Receipt | None:
        """Return what its runner signed for the result of a job, if that is here."""
        return await self._receipts.receipt(job_id)


@dataclass(frozen=True, slots=True)
class AcrossParts:
    """What gives jobs to other nodes and runs theirs, and the desk where clients ask for jobs of any node."""

    placement: PlacementService
    ledger: Ledger
    split: SplitService
    checks: SpotChecks
    receipts: ReceiptService
    desk: JobDesk

    @property
    def services(self) -> tuple[Service, ...]:
        """Return them in the order of their start."""
        return self.placement, *self.ledger.services, self.split, self.checks, self.receipts


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
        random_bytes=tools.public_bytes,
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
        random_bytes=tools.public_bytes,
    )
    placement.barred = lambda: checks.barred
    placement.draining = lambda: not ledger.drain.is_open
    engine.attach(Ways(ledger.owner, split))
    node.placement = placement
    receipts = _make_receipts(tools, peers)
    ledger.errands.given = receipts.given
    node.attach_results(ResultsDesk(checks, receipts))
    desk = JobDesk(engine, ledger.keeping, ledger.drain, tools.clock)
    return AcrossParts(placement, ledger, split, checks, receipts, desk)


def _make_receipts(tools: Tools, peers: MeshPeers) -> ReceiptService:
    identity = tools.identity
    seal = Seal(identity.fleet, identity.node, identity.key, identity.shown, identity.trust)
    return ReceiptService(seal, tools.store, peers, CryptoThread(), clock=tools.clock, metrics=tools.metrics)
