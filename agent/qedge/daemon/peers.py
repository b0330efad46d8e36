"""The parts of one daemon that speak to peers: broker, bus, sessions, mesh, and the operator's fleet desk."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qedge.base.ids import RandomBytes
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.child_broker import ChildBroker, remove_files
from qedge.bus.config import BusConfig
from qedge.bus.endpoint import external_endpoint
from qedge.bus.model import Endpoint
from qedge.bus.service import Bus
from qedge.config import AgentConfig
from qedge.crypto.registry import suites_of, usable_suites
from qedge.daemon.adapters import ThisHost
from qedge.daemon.membership.desk import FleetDesk
from qedge.daemon.membership.identity import LocalIdentity, keep_revocations
from qedge.daemon.membership.second_signature import check_second_signature
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.direct import DirectChannel, host_towards
from qedge.mesh.enrolment import JoinDesk, join_fleet
from qedge.mesh.hellos import Hellos
from qedge.mesh.host_watch import HostWatch
from qedge.mesh.ports import Capabilities, ExtraKeys
from qedge.mesh.service import MeshService
from qedge.mesh.sessions import SessionService
from qedge.store.store import Store
from qedge.wire.topics import Channel, topic

if TYPE_CHECKING:
    from qedge.crypto.handshake import HandshakeContexts


@dataclass(frozen=True, slots=True)
class Tools:
    """What nearly every part needs: settings, who the node is, its database, clock, metrics, random bytes, its host."""

    config: AgentConfig
    identity: LocalIdentity
    me: NodeIdentity
    store: Store
    clock: SystemClock
    metrics: Metrics
    random_bytes: RandomBytes
    public_bytes: RandomBytes
    """Random bytes for what is told, such as ids of jobs and their seeds; quicker by far for a few."""

    host: ThisHost = field(default_factory=ThisHost)


def make_bus(tools: Tools, password: str) -> tuple[ChildBroker | None, Bus]:
    """Connect to the configured broker, to the one where the fleet meets, or to a private one of our own."""
    config, identity = tools.config.broker, tools.identity
    uniform = random.SystemRandom().random
    outside = outside_broker(tools)
    broker, folder = None, Path(tools.config.node.runtime_dir)
    if outside is not None:
        remove_files(folder)  # of the private broker that this node had until it was killed
    else:
        broker = ChildBroker(
            config,
            folder,
            password=password if config.listen else "",
            clock=tools.clock,
            random_bytes=tools.random_bytes,
            uniform=uniform,
        )
    bus = Bus(
        config,
        broker.endpoint if broker is not None else lambda: outside,
        client_id=f"qedge-{identity.fleet}-{identity.node}",
        reply_topic=topic(identity.fleet, identity.node, Channel.REPLY),
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
        uniform=uniform,
    )
    return broker, bus


def outside_broker(tools: Tools) -> Endpoint | None:
    """Return the configured broker, or the one where the fleet meets; None: the node starts one of its own."""
    return external_endpoint(tools.config.broker) or _fleet_endpoint(tools.config.broker, tools.identity)


def make_mesh(
    tools: Tools, bus: Bus, capabilities: Capabilities, extra_keys: ExtraKeys
) -> tuple[SessionService, MeshService]:
    """Make what speaks to peers; the thread for signatures ends with the process."""
    config, identity, me = tools.config, tools.identity, tools.me
    thread, chain = CryptoThread(), identity.shown
    contexts = _contexts_of(tools)
    direct = DirectChannel(
        me.node,
        config.mesh.listen,
        near_host=lambda: host_towards(bus.broker_host) if bus.broker_host else "127.0.0.1",
        clock=tools.clock,
        metrics=tools.metrics,
    )
    hellos = Hellos(
        me,
        contexts,
        bus=bus,
        thread=thread,
        extra_keys=extra_keys,
        addresses=lambda: direct.addresses,
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
    )
    sessions = SessionService(
        me,
        hellos,
        bus=bus,
        direct=direct,
        clock=tools.clock,
        metrics=tools.metrics,
        key_period_s=config.crypto.extra_key_period_s,
    )
    host = HostWatch(config.host, state_dir=Path(config.node.state_dir), clock=tools.clock, metrics=tools.metrics)
    mesh = MeshService(
        me,
        identity.key,
        chain,
        identity.trust,
        config.mesh,
        host=host,
        bus=bus,
        sessions=sessions,
        thread=thread,
        capabilities=capabilities,
        keep_revocations=partial(keep_revocations, tools.store),
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
    )
    # Sessions stand on the key, which stays; new handshakes and the birth show the new certificate.
    identity.on_renewed += [lambda: contexts().show(chain.now), lambda: mesh.announcer.look(force=True)]
    return sessions, mesh


def _contexts_of(tools: Tools) -> Callable[[], HandshakeContexts]:
    """Return what makes the TLS settings of this node, at the latest at the first handshake; raises `crypto.no_suite`.

    A node of a fleet makes them now, since its peers wait; one that is alone would load OpenSSL for nothing.
    """
    identity = tools.identity
    suites = suites_of(identity.key.algorithm, usable_suites(tools.config.crypto))

    @cache
    def make() -> HandshakeContexts:
        from qedge.crypto.handshake import HandshakeContexts

        return HandshakeContexts(identity.key, identity.shown.now, identity.trust, suites)

    if not identity.standalone:
        make()
    return make


def make_fleet_desk(
    tools: Tools,
    bus: Bus,
    broker: ChildBroker | None,
    sessions: SessionService,
    mesh: MeshService,
    renew: Callable[[], None],
) -> FleetDesk:
    """Make what the operator's programs speak to."""
    return FleetDesk(
        tools.identity,
        tools.config.broker,
        store=tools.store,
        broker=broker,
        desk=JoinDesk(tools.identity.fleet, tools.identity.node, bus=bus, clock=tools.clock),
        ask_to_join=partial(
            join_fleet,
            config=tools.config.broker,
            clock=tools.clock,
            metrics=Metrics(),  # those of the node's own connection stay true
            random_bytes=tools.random_bytes,
            uniform=random.SystemRandom().random,
        ),
        check_anchor=check_second_signature,
        sessions=sessions,
        mesh=mesh,
        clock=tools.clock,
        random_bytes=tools.random_bytes,
        renew=renew,
    )


def _fleet_endpoint(config: BusConfig, identity: LocalIdentity) -> Endpoint | None:
    """Return the broker that the invitation named; a configured one goes before it."""
    address = identity.membership.broker
    if address is None:
        return None
    endpoint = external_endpoint(msgspec.structs.replace(config, url=address.url))
    return replace(endpoint, username=address.username, password=address.password) if endpoint is not None else None
