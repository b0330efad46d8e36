"""What manages the node from afar, put into the daemon: configuration, updates, diagnostics, telemetry, adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from qedge import __version__
from qedge.base.metrics import Metrics
from qedge.config import AgentConfig, Verdict
from qedge.daemon.compose import Parts
from qedge.daemon.diagnosing import box_settings
from qedge.daemon.fleet_commands import KINDS as DAEMON_KINDS
from qedge.daemon.fleet_configuration import Running, add_configuration
from qedge.daemon.fleet_update import make_update
from qedge.fleet.commands.kinds.kind import Kind
from qedge.fleet.commands.kinds.looking import Diagnostics
from qedge.fleet.configuration.executors import ConfigApply, ConfigRollback, ConfigSnapshot, ConfigStage
from qedge.fleet.diagnostics.service import BoxLook, Doctor
from qedge.fleet.thin_edge.commands import LocalCommand
from qedge.fleet.thin_edge.mapping import Json
from qedge.fleet.update.service import SoftwareUpdateExecutor
from qedge.store.spool_schemas import TELEMETRY_SCHEMA
from qedge.store.store import Store
from qedge.web import prometheus

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


def open_telemetry(config: AgentConfig, metrics: Metrics) -> Store | None:
    """Open the file of telemetry and of adapters to other tools, where any of them is enabled."""
    fleet = config.fleet
    if not (fleet.telemetry.enabled or fleet.thin_edge.enabled or fleet.home_assistant.enabled):
        return None
    return Store(Path(config.node.state_dir) / "telemetry.sqlite3", metrics=metrics, schema=TELEMETRY_SCHEMA)


def add_management(parts: Parts, running: Running, telemetry: Store | None) -> None:
    """Take everything into the daemon that serves those who manage it from afar."""
    executors = add_configuration(parts, running)
    look = BoxLook(
        __version__,
        parts.clock,
        settings=lambda: box_settings(Verdict(None, (), running.loaded().files, parts.config)),
        status=parts.node.status,
        identity=parts.node.fleet.identity,
        told=lambda: _told(parts),
    )
    if parts.fleet is not None:
        for executor in (*executors, *make_update(parts.config, parts.clock), Diagnostics(look), Doctor(look)):
            parts.fleet.commands.add(executor)
    if telemetry is not None:
        # loaded only where it is wanted
        from qedge.daemon.fleet_telemetry import make_telemetry

        for service in make_telemetry(parts, telemetry, (RestartHere(running.restart),)):
            parts.supervisor.add(service)
    if parts.config.fleet.sparkplug.enabled:
        # as above
        from qedge.daemon.fleet_sparkplug import make_sparkplug

        edge_node = make_sparkplug(parts.tools, parts.node)
        if edge_node is not None:
            parts.node.attach_sparkplug(edge_node.view)
            parts.supervisor.add(edge_node)


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


class RestartHere:
    """Implements `LocalOperation`: local tools restart the service. To be here again is to have succeeded."""

    kind = "restart"
    about: Mapping[str, Json] = {}
    time_limit_s = 120.0

    def __init__(self, restart: Callable[[], None]) -> None:
        self._restart = restart

    async def run(self, command: LocalCommand) -> Mapping[str, Json]:
        """Ask for it; never returns."""
        self._restart()
        never: Awaitable[None] = asyncio.get_running_loop().create_future()
        await never
        return {}

    async def recover(self, command: LocalCommand) -> Mapping[str, Json] | None:
        """Say that it has restarted."""
        return {}
