"""Telemetry and the adapters to other tools, put together."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence

import msgspec

from qedge.base.service import Service
from qedge.config import AgentConfig
from qedge.crypto.signed import sign_envelope
from qedge.daemon.fleet.ports import TelemetryParts
from qedge.daemon.peers import Tools
from qedge.fleet.connections import AdapterService, ToolConnection
from qedge.fleet.home_assistant.ports import Software
from qedge.fleet.home_assistant.service import ADAPTER as HOME_ASSISTANT
from qedge.fleet.home_assistant.service import HomeAssistant
from qedge.fleet.telemetry.service import Collector, TelemetryService
from qedge.fleet.telemetry.spool import Spool
from qedge.fleet.telemetry.uplink import BusTelemetry
from qedge.fleet.thin_edge.journal import StoredCommands
from qedge.fleet.thin_edge.mapping import Json
from qedge.fleet.thin_edge.ports import LocalOperation
from qedge.fleet.thin_edge.service import ADAPTER as THIN_EDGE
from qedge.fleet.thin_edge.service import ThinEdge
from qedge.fleet.tool_broker import ToolBrokerConfig
from qedge.mesh.crypto_thread import CryptoThread
from qedge.store.store import Store
from qedge.wire.envelope import Header


def make_telemetry(
    parts: TelemetryParts, store: Store, operations: Sequence[LocalOperation] = (), software: Software | None = None
) -> list[Service]:
    """Make what is enabled, in the order of its start.

    `operations`: what local tools may have done, of which the configuration permits some; `software`: what tells of
    newer versions and installs them.
    """
    tools, config = parts.tools, parts.config.fleet
    collector = Collector(config.telemetry, parts.node.status, clock=tools.clock)
    services: list[Service] = []
    states: dict[str, Callable[[], str]] = {}
    if config.telemetry.enabled:
        service = _make_service(parts, store)
        collector.add(service.take)
        service.adapters = lambda: {name: state() for name, state in states.items()}
        parts.node.attach_telemetry(service.view)
        services.append(service)
    if config.thin_edge.enabled:
        connection = _connect(tools, THIN_EDGE, config.thin_edge)
        states[THIN_EDGE] = lambda: connection.state
        thin_edge = ThinEdge(
            config.thin_edge,
            connection,
            collector,
            {each.kind: each for each in operations},
            StoredCommands(store),
            settings=_told(parts.config),
            pid=os.getpid(),
            clock=tools.clock,
        )
        collector.add(thin_edge.take)
        services.append(AdapterService(connection, f"adapter-{THIN_EDGE}", thin_edge.run))
    if config.home_assistant.enabled:
        home = _connect(tools, HOME_ASSISTANT, config.home_assistant)
        states[HOME_ASSISTANT] = lambda: home.state
        device = HomeAssistant(
            config.home_assistant,
            home,
            collector,
            fleet=tools.identity.fleet,
            node=tools.identity.node,
            uniform=random.SystemRandom().random,
            software=software,
        )
        collector.add(device.take)
        services.append(AdapterService(home, f"adapter-{HOME_ASSISTANT}", device.run))
    return [*services, collector]


def _make_service(parts: TelemetryParts, store: Store) -> TelemetryService:
    tools, config, thread = parts.tools, parts.config.fleet.telemetry, CryptoThread()
    identity = tools.identity

    async def sign(header: Header, body: msgspec.Struct) -> bytes:
        return await thread.run(sign_envelope, header, body, identity.key, identity.shown)

    uplink = BusTelemetry(identity.fleet, identity.node, parts.bus, sign, clock=tools.clock)
    spool = Spool(config, store, clock=tools.clock, metrics=tools.metrics, random_bytes=tools.random_bytes)
    return TelemetryService(config, spool, uplink, clock=tools.clock, metrics=tools.metrics)


def _connect(tools: Tools, adapter: str, config: ToolBrokerConfig) -> ToolConnection:
    identity = tools.identity
    return ToolConnection(
        adapter,
        config,
        client_id=f"qedge-{adapter}-{identity.node}"[:64],
        clock=tools.clock,
        metrics=tools.metrics,
        uniform=random.SystemRandom().random,
    )


def _told(config: AgentConfig) -> dict[str, Json]:
    """Return the settings that local tools may see: none that could be a secret, or the settings of a driver."""
    node, telemetry = config.node, config.fleet.telemetry
    return {
        "node": {"name": node.name, "fleet": node.fleet, "labels": list(node.labels)},
        "drivers": {name: {"driver": each.driver, "enabled": each.enabled} for name, each in config.drivers.items()},
        "telemetry": {"enabled": telemetry.enabled, "period_s": telemetry.period_s},
        "devices": {"enabled": config.devices.enabled},
        "commands": list(config.fleet.thin_edge.commands),
    }
