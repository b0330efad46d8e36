"""What manages the node from afar, put into the daemon: configuration, commands, telemetry, adapters.

What not every box has is loaded where it is wanted, since all start-ups would pay for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from qedge.base.metrics import Metrics
from qedge.config import AgentConfig
from qedge.daemon.fleet.configuration import Running, add_configuration
from qedge.daemon.fleet.ports import Parts
from qedge.store.spool_schemas import TELEMETRY_SCHEMA
from qedge.store.store import Store


def open_telemetry(config: AgentConfig, metrics: Metrics) -> Store | None:
    """Open the file of telemetry and of adapters to other tools, where any of them is enabled."""
    fleet = config.fleet
    if not (fleet.telemetry.enabled or fleet.thin_edge.enabled or fleet.home_assistant.enabled):
        return None
    return Store(Path(config.node.state_dir) / "telemetry.sqlite3", metrics=metrics, schema=TELEMETRY_SCHEMA)


def add_management(parts: Parts, running: Running, telemetry: Store | None) -> None:
    """Take everything into the daemon that serves those who manage it from afar."""
    executors = add_configuration(parts, running)
    root = _updated(Path(sys.prefix))
    if root is not None:
        from qedge.daemon.fleet.update import make_recorder

        log = parts.audit or (parts.fleet.audit if parts.fleet is not None else None)
        for service in make_recorder(parts.tools, log, root):
            parts.supervisor.add(service)
    if parts.fleet is not None:
        from qedge.daemon.fleet.executors import more_executors

        for executor in (*executors, *more_executors(parts, running)):
            parts.fleet.commands.add(executor)
    if parts.config.fleet.renewal.enabled and not parts.tools.me.standalone:
        from qedge.daemon.fleet.renewing import make_renewal

        parts.supervisor.add(make_renewal(parts.tools, parts.bus, parts.node.fleet))
    if telemetry is not None:
        from qedge.daemon.fleet.local_operations import make_operations, offered_update
        from qedge.daemon.fleet.telemetry import make_telemetry

        update = offered_update(parts.tools, running.stopping)
        operations, services = make_operations(parts.config.fleet.thin_edge, running, update)
        for service in (*services, *make_telemetry(parts, telemetry, operations, update)):
            parts.supervisor.add(service)
    if parts.config.fleet.sparkplug.enabled:
        from qedge.daemon.fleet.sparkplug import make_sparkplug

        edge_node = make_sparkplug(parts.tools, parts.node)
        if edge_node is not None:
            parts.node.attach_sparkplug(edge_node.view)
            parts.supervisor.add(edge_node)


def _updated(program: Path) -> Path | None:
    """Return the folder of the two environments where a program runs from one of them, which the updater changes."""
    return program.parent if (program.parent / "kept").is_symlink() else None
