"""The composition root: a configuration in, the parts of one daemon out, readable as a list."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qedge import __version__
from qedge.base.ids import DrawnAhead
from qedge.base.metrics import Metrics
from qedge.base.service import Service
from qedge.base.system_clock import SystemClock
from qedge.base.systemd import Notifier
from qedge.bus.child_broker import ChildBroker
from qedge.bus.service import Bus
from qedge.config import AgentConfig
from qedge.daemon.across import AcrossParts, make_across
from qedge.daemon.adapters import (
    KeptAdminStates,
    MeshPeers,
    NamedDriver,
    QrngSource,
)
from qedge.daemon.certificates import make_certificates
from qedge.daemon.keys.compose import KeyParts, make_keys
from qedge.daemon.keys.files import KeyFiles
from qedge.daemon.managed import Power
from qedge.daemon.membership.first_join import FirstJoin, token_file
from qedge.daemon.membership.identity import LocalIdentity
from qedge.daemon.node import Node
from qedge.daemon.peers import Tools, make_bus, make_fleet_desk, make_mesh
from qedge.daemon.shared_state import StateParts, follow_policy, make_state
from qedge.engine.assessment.service import AssessmentService
from qedge.engine.decoding.service import DecodeService
from qedge.engine.service import EngineService
from qedge.entropy.service import EntropyService
from qedge.mesh.birth import NodeIdentity
from qedge.mesh.service import MeshService
from qedge.mesh.sessions import SessionService
from qedge.qkd.ports import Link
from qedge.qkd.service import LinkService
from qedge.store.store import Store
from qedge.supervisor import Supervisor, Watchdog
from qedge.web.config import socket_path
from qedge.web.service import WebService
from qedge.wire.node import Fact
from qedge.wire.trust import JoinCommand
from qedge.workers.config import DriverConfig
from qedge.workers.driver_service import DriverService

if TYPE_CHECKING:
    from qedge.daemon.distilling import DistilledLinks
    from qedge.daemon.fleet.commands import FleetParts
    from qedge.security.audit.log import AuditLog

CIRCUIT_HOST: Final = "qedge.engine.circuit_host:CircuitHost"
PULSE_LIMIT_S: Final = 20.0


@dataclass(slots=True)
class Parts:
    """Everything one daemon is made of."""

    tools: Tools
    config: AgentConfig
    clock: SystemClock
    metrics: Metrics
    store: Store
    supervisor: Supervisor
    drivers: dict[str, DriverService]
    entropy: EntropyService
    engine: EngineService
    decoder: DecodeService
    across: AcrossParts
    assessment: AssessmentService
    broker: ChildBroker | None
    bus: Bus
    sessions: SessionService
    mesh: MeshService
    links: dict[str, Link]
    keys: KeyParts
    node: Node
    shared: StateParts
    web: WebService
    fleet: FleetParts | None = None
    audit: AuditLog | None = None


def compose(
    config: AgentConfig,
    identity: LocalIdentity,
    *,
    store: Store,
    key_files: KeyFiles,
    metrics: Metrics,
    epoch: int,
    notifier: Notifier,
    broker_password: str,
    renew: Callable[[], None],
    power: Power,
) -> Parts:
    """Make all parts and hand them to the supervisor; nothing runs yet. `renew` starts the services anew."""
    clock, me = SystemClock(), _this_run(identity, epoch, config)
    supervisor = Supervisor(clock=clock, metrics=metrics, uniform=random.SystemRandom().random)
    drivers, links = dict[str, DriverService](), dict[str, Link]()
    entropy = _make_entropy(config, drivers, clock, metrics, f"{me.boot_id} {epoch}")
    tools = Tools(config, identity, me, store, clock, metrics, entropy.random_bytes, DrawnAhead(entropy.random_bytes))
    decoder, engine, keys = _make_decoder(tools), _make_engine(tools, drivers), make_keys(tools, key_files)
    assessment, (broker, bus) = _make_assessment(tools, engine, drivers), make_bus(tools, broker_password)
    node = Node(
        me,
        clock=clock,
        supervisor=supervisor,
        store=store,
        engine=engine,
        assessment=assessment,
        decoder=decoder,
        entropy=entropy,
        keys=keys.office,
        bus=bus,
        drivers=drivers,
        links=links,
    )
    sessions, mesh = make_mesh(tools, bus, node, keys.for_sessions)
    across = make_across(tools, engine, MeshPeers(mesh, sessions), mesh, node)
    node.attach(mesh, make_fleet_desk(tools, bus, broker, sessions, mesh, renew), across.desk)
    shared, web = make_state(tools, bus, sessions, mesh, engine.reception.templates, node), _make_web(tools, node)
    base = (tools, config, clock, metrics, store, supervisor)
    parts = Parts(
        *base,
        drivers,
        entropy,
        engine,
        decoder,
        across,
        assessment,
        broker,
        bus,
        sessions,
        mesh,
        links,
        keys,
        node,
        shared,
        web,
    )
    parts.fleet = _make_fleet(parts, power)
    return _enlist(parts, notifier)


def _make_fleet(parts: Parts, power: Power) -> FleetParts | None:
    tools = parts.tools
    if not tools.config.fleet.commands.enabled or tools.me.standalone:
        return None
    # loaded only where it is wanted: a fleet of one has no operators
    from qedge.daemon.fleet.commands import make_fleet

    return make_fleet(tools, parts.node, parts.bus, parts.drivers, power, partial(_enable, parts))


def _make_uplink(parts: Parts) -> Sequence[Service]:
    if not parts.config.uplink.url and parts.config.uplink.node_class != "cloud":
        return ()
    from qedge.daemon.uplink import make_uplink

    return make_uplink(parts.tools, parts.bus, parts.shared.state, parts.engine.changes)


def _this_run(identity: LocalIdentity, epoch: int, config: AgentConfig) -> NodeIdentity:
    boot_id, labels = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(), config.node.labels
    if config.uplink.node_class == "cloud":
        from qedge.daemon.uplink import CLOUD_LABEL

        labels = (*labels[:15], CLOUD_LABEL)
    return NodeIdentity(identity.fleet, identity.node, __version__, boot_id, epoch, identity.standalone, labels)


def _make_entropy(
    config: AgentConfig, drivers: dict[str, DriverService], clock: SystemClock, metrics: Metrics, this_run: str
) -> EntropyService:
    source = QrngSource(config.entropy.source, drivers) if config.entropy.source else None
    return EntropyService(config.entropy, source, clock=clock, metrics=metrics, personalization=this_run.encode())


def _make_engine(tools: Tools, drivers: dict[str, DriverService]) -> EngineService:
    return EngineService(
        tools.config.engine,
        tools.store,
        qpus=lambda: [NamedDriver(name, drivers) for name in drivers],
        memory=tools.host,
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.public_bytes,
        node_name=tools.me.node,
    )


def _make_assessment(tools: Tools, engine: EngineService, drivers: Mapping[str, DriverService]) -> AssessmentService:
    def note(name: str, facts: Mapping[str, Fact]) -> None:
        if name in drivers:
            drivers[name].note(facts)

    return AssessmentService(
        tools.config.engine,
        tools.store,
        qpus=lambda: [NamedDriver(name, drivers) for name in drivers],
        host=tools.host,
        busy=lambda: engine.is_busy,
        note=note,
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
    )


def _make_decoder(tools: Tools) -> DecodeService:
    config = tools.config
    return DecodeService(
        config.decode, config.workers, clock=tools.clock, metrics=tools.metrics, random_bytes=tools.random_bytes
    )


def _make_web(tools: Tools, node: Node) -> WebService:
    config = tools.config
    web = WebService(
        config.http,
        node,
        socket_path=Path(socket_path(config.http, config.node.runtime_dir)),
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
    )
    node.addresses = lambda: (web.socket, web.address)
    return web


def _enlist(parts: Parts, notifier: Notifier) -> Parts:
    """Hand all services to the supervisor, in the order of their start; they stop in the opposite one."""
    config, supervisor = parts.config, parts.supervisor
    parts.keys.stores.attach(parts.sessions)
    supervisor.add(parts.entropy, essential=True)
    if parts.broker is not None:
        supervisor.add(parts.broker)
    supervisor.add(parts.bus)
    supervisor.add(parts.keys.store, essential=True)
    supervisor.add(parts.sessions, essential=True)
    supervisor.add(parts.mesh, essential=True)
    supervisor.add(parts.keys.for_sessions)
    for name, driver in config.drivers.items():
        if driver.enabled:
            add_driver(parts, name, driver)
    add_links(parts)
    supervisor.add(parts.engine, essential=True)
    for service in parts.across.services:
        supervisor.add(service, essential=True)
    for sharing in parts.shared.services:
        supervisor.add(sharing)
    for service in parts.fleet.services if parts.fleet is not None else ():
        supervisor.add(service)
    for carrying in _make_uplink(parts):
        supervisor.add(carrying)
    supervisor.add(parts.assessment)
    supervisor.add(parts.decoder)
    supervisor.add(parts.web, essential=True)
    if config.qkd.delivery.enabled:
        supervisor.add(parts.keys.service)
    pulses = {"message pump": lambda: parts.bus.progress_ns, "host samples": lambda: parts.mesh.host.sampled_ns}
    certificates = make_certificates(parts.tools)
    parts.node.unfit = certificates.watch.missing
    supervisor.add(certificates)
    supervisor.add(
        FirstJoin(
            token_file(config.mesh.join_file, os.environ),
            lambda line: parts.node.fleet.join(JoinCommand(line)),
            standalone=parts.tools.identity.standalone,
            uniform=random.SystemRandom().random,
        )
    )
    supervisor.add(
        Watchdog(notifier=notifier, clock=parts.clock, metrics=parts.metrics, pulses=pulses, max_age_s=PULSE_LIMIT_S)
    )
    return parts


async def add_gateway(parts: Parts, spool: Store) -> None:
    """Take attached devices into the daemon."""
    # loaded only where it is wanted: most boxes of a fleet have no devices of their own
    from qedge.daemon.gateway.compose import open_gateway

    gateway = await open_gateway(
        parts.tools,
        parts.bus,
        parts.broker,
        parts.sessions,
        parts.mesh,
        keys=parts.keys.store,
        spool=spool,
    )
    parts.node.attach_gateway(gateway.desks)
    parts.audit = gateway.desks.security.audit
    if parts.fleet is not None:
        from qedge.daemon.fleet.doors import AuditedCommands

        parts.fleet.commands.audit_with(AuditedCommands(parts.audit, parts.tools.me.node))
    for service in (*gateway.services, follow_policy(parts.shared, gateway.desks.policy)):
        parts.supervisor.add(service)


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
        target=_host_of(parts.config, name),
        on_change=changed,
    )
    waited_for = config.startup == "error"
    parts.supervisor.add(parts.drivers[name], essential=waited_for, later=not waited_for)


async def _enable(parts: Parts, name: str, enabled: bool) -> None:
    if enabled:
        add_driver(parts, name, parts.config.drivers[name])
    else:
        await remove_driver(parts, name)


def _host_of(config: AgentConfig, driver: str) -> str:
    if not any(link.distils and driver in link.transceivers for link in config.qkd.links.values()):
        return CIRCUIT_HOST
    from qedge.daemon.distilling import LINK_HOST

    return LINK_HOST


def add_links(parts: Parts) -> None:
    """Take all configured links into the daemon."""
    drivers, links = parts.drivers, parts.config.qkd.links
    distilled: DistilledLinks | None = None
    if any(link.distils for link in links.values()):
        from qedge.daemon.distilling import DistilledLinks

        distilled = DistilledLinks(parts.tools, drivers, parts.sessions, parts.keys.store)
    for name, link in links.items():
        if distilled is not None and link.distils:
            service = distilled.make(name, link)
            parts.links[name] = service
            parts.supervisor.add(service)
        else:
            measured = (NamedDriver(link.alice, drivers), NamedDriver(link.bob, drivers))
            parts.links[name] = LinkService(name, link, *measured, clock=parts.clock, metrics=parts.metrics)


async def remove_driver(parts: Parts, name: str) -> None:
    """Let a driver go: its workers end and its capability leaves the birth."""
    driver = parts.drivers.pop(name, None)
    if driver is not None:
        await parts.supervisor.remove(driver.name)
        parts.mesh.capabilities_changed()
