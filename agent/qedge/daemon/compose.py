"""The composition root: a configuration in, the parts of one daemon out, readable as a list."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from qedge import __version__
from qedge.base.ids import RandomBytes
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.base.systemd import Notifier
from qedge.bus.child_broker import ChildBroker
from qedge.bus.config import BusConfig
from qedge.bus.model import Endpoint
from qedge.bus.service import Bus, external_endpoint
from qedge.config import AgentConfig
from qedge.crypto.config import CryptoConfig
from qedge.crypto.handshake import HandshakeContexts
from qedge.crypto.registry import usable_suites
from qedge.daemon.adapters import HostMemory, KeptAdminStates, NamedDriver, NoExtraKeys, QrngSource
from qedge.daemon.fleet_desk import FleetDesk
from qedge.daemon.identity import LocalIdentity, keep_revocations
from qedge.daemon.node import Node
from qedge.engine.service import EngineService
from qedge.entropy.service import EntropyService
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.direct import DirectChannel, host_towards
from qedge.mesh.hellos import Hellos
from qedge.mesh.host_watch import HostWatch
from qedge.mesh.service import MeshService
from qedge.mesh.sessions import SessionService
from qedge.qkd.service import LinkService
from qedge.store.store import Store
from qedge.supervisor import Supervisor, Watchdog
from qedge.web.config import socket_path
from qedge.web.service import WebService
from qedge.wire.topics import Channel, topic
from qedge.workers.config import DriverConfig
from qedge.workers.driver_service import DriverService

CIRCUIT_HOST: Final = "qedge.engine.circuit_host:CircuitHost"
PULSE_LIMIT_S: Final = 20.0


@dataclass(slots=True)
class Parts:
    """Everything one daemon is made of."""

    config: AgentConfig
    clock: SystemClock
    metrics: Metrics
    store: Store
    supervisor: Supervisor
    drivers: dict[str, DriverService]
    entropy: EntropyService
    engine: EngineService
    broker: ChildBroker | None
    bus: Bus
    identity: LocalIdentity
    sessions: SessionService
    mesh: MeshService
    links: dict[str, LinkService]
    node: Node
    web: WebService


def compose(
    config: AgentConfig,
    identity: LocalIdentity,
    *,
    store: Store,
    metrics: Metrics,
    epoch: int,
    notifier: Notifier,
    broker_password: str,
    renew: Callable[[], None],
) -> Parts:
    """Make all parts and hand them to the supervisor; nothing runs yet. `renew` starts the services anew."""
    clock = SystemClock()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    me = NodeIdentity(identity.fleet, identity.node, __version__, boot_id, epoch, identity.standalone)
    supervisor = Supervisor(clock=clock, metrics=metrics, uniform=random.SystemRandom().random)
    drivers: dict[str, DriverService] = {}

    source = QrngSource(config.entropy.source, drivers) if config.entropy.source else None
    entropy = EntropyService(
        config.entropy, source, clock=clock, metrics=metrics, personalization=f"{boot_id} {epoch}".encode()
    )
    engine = EngineService(
        config.engine,
        store,
        qpus=lambda: [NamedDriver(name, drivers) for name in drivers],
        memory=HostMemory(),
        clock=clock,
        metrics=metrics,
        random_bytes=entropy.random_bytes,
    )
    broker, bus = _make_bus(config, identity, broker_password, clock, metrics, entropy.random_bytes)
    links: dict[str, LinkService] = {}
    node = Node(
        me,
        clock=clock,
        supervisor=supervisor,
        store=store,
        engine=engine,
        entropy=entropy,
        bus=bus,
        drivers=drivers,
        links=links,
    )
    sessions, mesh = _make_mesh(config, identity, me, node, bus, store, clock, metrics, entropy.random_bytes)
    node.mesh = mesh
    node.fleet = FleetDesk(
        identity,
        config.broker,
        store=store,
        broker=broker,
        sessions=sessions,
        mesh=mesh,
        clock=clock,
        random_bytes=entropy.random_bytes,
        renew=renew,
    )
    web = WebService(
        config.http,
        node,
        socket_path=Path(socket_path(config.http, config.node.runtime_dir)),
        clock=clock,
        metrics=metrics,
        random_bytes=entropy.random_bytes,
    )
    node.addresses = lambda: (web.socket, web.address)
    parts = Parts(
        config=config,
        clock=clock,
        metrics=metrics,
        store=store,
        supervisor=supervisor,
        drivers=drivers,
        entropy=entropy,
        engine=engine,
        broker=broker,
        bus=bus,
        identity=identity,
        sessions=sessions,
        mesh=mesh,
        links=links,
        node=node,
        web=web,
    )
    _enlist(parts, notifier)
    return parts


def _make_mesh(
    config: AgentConfig,
    identity: LocalIdentity,
    me: NodeIdentity,
    node: Node,
    bus: Bus,
    store: Store,
    clock: SystemClock,
    metrics: Metrics,
    random_bytes: RandomBytes,
) -> tuple[SessionService, MeshService]:
    """Make what speaks to peers; the thread for signatures ends with the process."""
    thread = CryptoThread()
    chain = identity.membership.chain
    direct = DirectChannel(
        me.node,
        config.mesh.listen,
        near_host=lambda: host_towards(bus.broker_host) if bus.broker_host else "127.0.0.1",
        clock=clock,
        metrics=metrics,
    )
    hellos = Hellos(
        me,
        HandshakeContexts(identity.key, chain, identity.trust, usable_suites(CryptoConfig())),
        bus=bus,
        thread=thread,
        extra_keys=NoExtraKeys("prefer"),
        addresses=lambda: direct.addresses,
        clock=clock,
        metrics=metrics,
        random_bytes=random_bytes,
    )
    sessions = SessionService(me, hellos, bus=bus, direct=direct, clock=clock, metrics=metrics)
    mesh = MeshService(
        me,
        identity.key,
        chain,
        identity.trust,
        config.mesh,
        host=HostWatch(config.host, state_dir=Path(config.node.state_dir), clock=clock, metrics=metrics),
        bus=bus,
        sessions=sessions,
        thread=thread,
        capabilities=node,
        keep_revocations=partial(keep_revocations, store),
        clock=clock,
        metrics=metrics,
        random_bytes=random_bytes,
    )
    return sessions, mesh


def _make_bus(
    config: AgentConfig,
    identity: LocalIdentity,
    password: str,
    clock: SystemClock,
    metrics: Metrics,
    random_bytes: RandomBytes,
) -> tuple[ChildBroker | None, Bus]:
    """Connect to the configured broker, to the one where the fleet meets, or to a private one of our own."""
    uniform = random.SystemRandom().random
    outside = external_endpoint(config.broker) or _fleet_endpoint(config.broker, identity)
    broker = None
    if outside is None:
        broker = ChildBroker(
            config.broker,
            Path(config.node.runtime_dir),
            clock=clock,
            random_bytes=random_bytes,
            uniform=uniform,
        )
    bus = Bus(
        config.broker,
        broker.endpoint if broker is not None else lambda: outside,
        client_id=f"qedge-{identity.fleet}-{identity.node}",
        reply_topic=topic(identity.fleet, identity.node, Channel.REPLY),
        clock=clock,
        metrics=metrics,
        random_bytes=random_bytes,
        uniform=uniform,
    )
    return broker, bus


def _fleet_endpoint(config: BusConfig, identity: LocalIdentity) -> Endpoint | None:
    """Return the broker that the invitation named; a configured one goes before it."""
    address = identity.membership.broker
    if address is None:
        return None
    endpoint = external_endpoint(msgspec.structs.replace(config, url=address.url))
    return replace(endpoint, username=address.username, password=address.password) if endpoint is not None else None


def _enlist(parts: Parts, notifier: Notifier) -> None:
    """Hand all services to the supervisor, in the order of their start; they stop in the opposite one."""
    config, supervisor = parts.config, parts.supervisor
    supervisor.add(parts.entropy, essential=True)
    if parts.broker is not None:
        supervisor.add(parts.broker)
    supervisor.add(parts.bus)
    supervisor.add(parts.sessions, essential=True)
    supervisor.add(parts.mesh, essential=True)
    for name, driver in config.drivers.items():
        if driver.enabled:
            add_driver(parts, name, driver)
    for name, link in config.qkd.links.items():
        ends = (NamedDriver(link.alice, parts.drivers), NamedDriver(link.bob, parts.drivers))
        parts.links[name] = LinkService(name, link, *ends, clock=parts.clock, metrics=parts.metrics)
    supervisor.add(parts.engine, essential=True)
    supervisor.add(parts.web, essential=True)
    pulses = {"message pump": lambda: parts.bus.progress_ns, "host samples": lambda: parts.mesh.host.sampled_ns}
    supervisor.add(
        Watchdog(notifier=notifier, clock=parts.clock, metrics=parts.metrics, pulses=pulses, max_age_s=PULSE_LIMIT_S)
    )


def add_driver(parts: Parts, name: str, config: DriverConfig) -> None:
    """Take one configured driver into the daemon; with `startup = "error"` the node waits for it."""

    def changed() -> None:
        parts.mesh.capabilities_changed()
        parts.engine.wake()

    parts.drivers[name] = DriverService(
        name,
        config,
        parts.config.workers,
        state_dir=str(Path(parts.config.node.state_dir) / "drivers" / name),
        clock=parts.clock,
        metrics=parts.metrics,
        random_bytes=parts.entropy.random_bytes,
        uniform=random.SystemRandom().random,
        admin_states=KeptAdminStates(parts.store),
        target=CIRCUIT_HOST,
        on_change=changed,
    )
    parts.supervisor.add(parts.drivers[name], essential=config.startup == "error")


async def remove_driver(parts: Parts, name: str) -> None:
    """Let a driver go: its workers end and its capability leaves the birth."""
    driver = parts.drivers.pop(name, None)
    if driver is not None:
        await parts.supervisor.remove(driver.name)
        parts.mesh.capabilities_changed()
