"""The uplink of one daemon, put together: a second connection, or the cloud's ear."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from qedge.base.metrics import Metrics
from qedge.base.service import Service
from qedge.bus.endpoint import external_endpoint
from qedge.bus.service import Bus
from qedge.daemon.peers import Tools
from qedge.engine.changes import Changes
from qedge.mesh.crypto_thread import CryptoThread
from qedge.orchestrator.state.service import StateService
from qedge.orchestrator.uplink.answering import CloudMap
from qedge.orchestrator.uplink.cloud import CloudService
from qedge.orchestrator.uplink.model import UplinkIdentity
from qedge.orchestrator.uplink.service import UplinkService
from qedge.wire.topics import Channel, topic

CLOUD_LABEL: Final = "class:cloud"
"""In the birth of a node of the cloud, so that jobs can ask for it or avoid it."""


def make_uplink(tools: Tools, bus: Bus, state: StateService, changes: Changes) -> Sequence[Service]:
    """Make what `[uplink]` asks for, in the order of its start; nothing where it asks for nothing."""
    config, me = tools.config.uplink, tools.identity
    identity = UplinkIdentity(me.fleet, me.node, me.key, me.shown, me.trust)
    services: list[Service] = []
    if config.node_class == "cloud":
        CloudMap(identity, bus, state, CryptoThread(), clock=tools.clock)
        services.append(
            CloudService(config, identity, bus, tools.store, CryptoThread(), clock=tools.clock, metrics=tools.metrics)
        )
    if config.url:
        settings = config.bus()
        endpoint = external_endpoint(settings)
        above = Bus(
            settings,
            lambda: endpoint,
            client_id=f"qedge-up-{me.fleet}-{me.node}",
            reply_topic=topic(me.fleet, me.node, Channel.REPLY),
            clock=tools.clock,
            metrics=Metrics(),  # those of the node's own connection stay true
            random_bytes=tools.random_bytes,
            uniform=random.SystemRandom().random,
        )
        above.name = "uplink bus"
        service = UplinkService(
            config,
            identity,
            above,
            bus,
            state,
            changes,
            tools.store,
            CryptoThread(),
            clock=tools.clock,
            metrics=tools.metrics,
        )
        services += [above, service]
    return services
