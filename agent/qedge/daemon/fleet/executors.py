"""What else a node can be ordered to do: configuration, updates, and a look at the box. Loaded by members of fleets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from qedge import __version__
from qedge.config import Verdict
from qedge.daemon.diagnosing import box_settings
from qedge.daemon.fleet.commands import KINDS as DAEMON_KINDS
from qedge.daemon.fleet.configuration import Running
from qedge.daemon.fleet.ports import Parts
from qedge.daemon.fleet.update import make_update
from qedge.fleet.commands.kinds.kind import Kind
from qedge.fleet.commands.kinds.looking import Diagnostics
from qedge.fleet.commands.ports import Executor
from qedge.fleet.configuration.executors import ConfigApply, ConfigRollback, ConfigSnapshot, ConfigStage
from qedge.fleet.diagnostics.service import BoxLook, Doctor
from qedge.fleet.update.service import SoftwareUpdateExecutor
from qedge.web.health import prometheus

KINDS: Final[tuple[type[Kind], ...]] = (
    *DAEMON_KINDS,
    ConfigSnapshot,
    ConfigStage,
    ConfigApply,
    ConfigRollback,
    SoftwareUpdateExecutor,
    Diagnostics,
    Doctor,
)
"""All kinds of commands beside `cancel`."""

_JOBS: Final = 200


def more_executors(parts: Parts, running: Running) -> Sequence[Executor]:
    """Make what stands beside the daemon's own commands and those about its configuration."""
    look = BoxLook(
        __version__,
        parts.clock,
        settings=lambda: box_settings(Verdict(None, (), running.loaded().files, parts.config)),
        status=parts.node.status,
        identity=parts.node.fleet.identity,
        told=lambda: _told(parts),
    )
    return (*make_update(parts.config, parts.clock, running.stopping), Diagnostics(look), Doctor(look))


async def _told(parts: Parts) -> Mapping[str, str]:
    """Write down for a bundle what the node says of itself; of jobs only how they went."""
    node = parts.node
    jobs = [
        {"id": job.id, "state": job.state, "attempts": job.attempts, "error": job.error}
        for job in (await node.jobs(_JOBS)).jobs
    ]
    return {
        "status.json": _pretty(node.status()),
        "identity.json": _pretty(node.fleet.identity()),
        "peers.json": _pretty(node.peers()),
        "jobs.json": _pretty(jobs),
        "metrics.txt": prometheus.render(parts.metrics),
    }


def _pretty(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode()
