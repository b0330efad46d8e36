"""The parts of one daemon that share its jobs with other nodes."""

from __future__ import annotations

from dataclasses import dataclass

from qedge.base.service import Service
from qedge.daemon.adapters import MeshPeers
from qedge.daemon.peers import Tools
from qedge.engine.service import EngineService
from qedge.orchestrator.ledger.service import Ledger, make_ledger
from qedge.orchestrator.service import JobDesk


@dataclass(frozen=True, slots=True)
class AcrossParts:
    """What gives jobs to other nodes and runs theirs, and the desk where clients ask for jobs of any node."""

    ledger: Ledger
    desk: JobDesk

    @property
    def services(self) -> tuple[Service, ...]:
        """Return them in the order of their start."""
        return self.ledger.services


def make_across(tools: Tools, engine: EngineService, peers: MeshPeers) -> AcrossParts:
    """Make them, with the placer that needs to know nothing of the nodes."""
    config = tools.config
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
    )
    engine.attach(ledger.owner)
    return AcrossParts(ledger, JobDesk(engine, ledger.keeping, ledger.drain, tools.clock))
