"""The gateway for attached devices, put together: policy, security, devices, ways in, segments, the way upstream."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.metrics import Metrics
from qedge.base.service import Service
from qedge.bus.child_broker import ChildBroker
from qedge.bus.credentials import BrokerCredentials
from qedge.bus.model import Endpoint, Locate
from qedge.bus.service import Bus
from qedge.crypto.signed import sign_envelope
from qedge.daemon.gateway.adapters import (
    DeviceRoom,
    DeviceSubjects,
    Downward,
    LateGuard,
    NoUplink,
    RevokedPeers,
    SegmentDoor,
    StoredDeviceKeys,
    TrustHistory,
    WatchfulSecurity,
    peer_states,
)
from qedge.daemon.gateway.desk import AuditedDevices
from qedge.daemon.gateway.lists import open_lists
from qedge.daemon.node import GatewayDesks
from qedge.daemon.peers import Tools, outside_broker
from qedge.devices.enforcement import Enforcement, Outcome
from qedge.devices.enrolment.authority import NodeIdentity
from qedge.devices.onward.judging import UpstreamGate
from qedge.devices.onward.ledger import GatewayLedger
from qedge.devices.onward.ports import Uplink
from qedge.devices.onward.sealing import OnwardSealer, read_recipient
from qedge.devices.onward.service import OnwardService
from qedge.devices.onward.uplink import BusUplink
from qedge.devices.ports import Way
from qedge.devices.segments.commanding import CommandDesk
from qedge.devices.segments.directory import Directory
from qedge.devices.segments.hosting import PeerHost
from qedge.devices.segments.office import SegmentOffice
from qedge.devices.segments.ports import Denied
from qedge.devices.segments.service import SegmentService
from qedge.devices.segments.visiting import Visitor
from qedge.devices.segments.watching import WatchDesk
from qedge.devices.service import Devices, open_devices
from qedge.devices.service import Tools as DeviceTools
from qedge.devices.ways_in.greeting import GreetingDesk
from qedge.devices.ways_in.intake import BrokerIntake
from qedge.devices.ways_in.listener import Listener
from qedge.devices.ways_in.pace import Pace
from qedge.devices.ways_in.rates import Throttles
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.service import MeshService
from qedge.mesh.sessions import SessionService
from qedge.qkd.keys.service import KeyStore
from qedge.security.desk import SecurityDesk
from qedge.security.incidents.fleet import FleetHerald
from qedge.security.model import Action, Decision, Resource, Subject
from qedge.security.policy.engine import PolicyEngine
from qedge.security.policy.service import PolicyService
from qedge.security.service import SecurityService
from qedge.store.store import Store
from qedge.wire.audit import AuditKind
from qedge.wire.envelope import Header
from qedge.wire.mesh import PeerState
from qedge.wire.node import GatewayView
from qedge.wire.segments import OnwardView

_REFUSED: Final = tuple(each.name.lower() for each in Outcome if each not in (Outcome.TAKEN, Outcome.DUPLICATE))
_EVERYWHERE: Final = ("0.0.0.0", "[::]")  # noqa: S104 - compared with, not bound


@dataclass(frozen=True, slots=True)
class Gateway:
    """What serves attached devices: for the operator's programs, and for the supervisor in the order of its start."""

    desks: GatewayDesks
    services: tuple[Service, ...]


@dataclass(frozen=True, slots=True)
class _Floor:
    """Who decides, who the devices are, and who watches them."""

    engine: PolicyEngine
    policy: PolicyService
    devices: Devices
    security: SecurityService
    guard: LateGuard
    thread: CryptoThread


@dataclass(frozen=True, slots=True)
class _BrokerAccess:
    """Where the broker is, with user and password, and how its certificate is checked."""

    locate: Locate
    credentials: BrokerCredentials


@dataclass(frozen=True, slots=True)
class _Saying:
    """What becomes of readings, and where commands come from."""

    segments: SegmentService
    commands: CommandDesk
    onward: OnwardService
    subjects: Directory
    down: Downward
    upstream: UpstreamGate
    denied: Denied


async def open_gateway(
    tools: Tools,
    bus: Bus,
    broker: ChildBroker | None,
    sessions: SessionService,
    mesh: MeshService,
    *,
    keys: KeyStore,
    spool: Store,
) -> Gateway:
    """Make all parts; reads devices and the policy. Raises `device.bad_maker`, `store.*`, `onward.bad_recipient`."""
    config, identity = tools.config.devices, tools.identity
    access = await _broker_access(tools, broker)
    floor = await _open_floor(tools, bus, access, keys)
    lists = await open_lists(
        tools, floor.devices, floor.security, floor.policy, floor.thread, bus=bus, sessions=sessions, mesh=mesh
    )
    saying = await _make_saying(tools, floor, bus, mesh, spool)
    segments, security = saying.segments, floor.security
    enforcement = Enforcement(
        floor.devices.sessions, floor.engine, consumers=[segments], witness=security, metrics=tools.metrics
    )
    saying.down.enforcement = enforcement
    pace = Pace(tools.clock)
    greetings = GreetingDesk(floor.devices.greeter, pace=pace, metrics=tools.metrics)
    listener, intake = _make_ways(tools, floor, saying, access, enforcement, greetings, pace)
    greetings.on_greeted(listener.recheck)
    security.follow(lambda: enforcement.tallies, lambda: listener.address_tallies)

    incidents = SecurityDesk(security, tools.store, tools.clock)
    visitor = Visitor(identity.fleet, sessions, bus, clock=tools.clock, feed_readings=config.group_keys.feed_readings)
    watches = WatchDesk(
        identity.node, segments, visitor, saying.subjects, floor.engine, clock=tools.clock, denied=saying.denied
    )
    desks = GatewayDesks(
        AuditedDevices(floor.devices.desk, floor.devices.registry, security, incidents, enforcement.forget, lists),
        floor.policy,
        incidents,
        _office(tools, floor, saying, watches),
        lambda: _view(floor, enforcement, listener, intake, segments, tools.metrics),
    )

    def swapped() -> None:
        segments.policy_changed()
        saying.commands.policy_changed()
        watches.policy_changed()
        saying.upstream.policy_changed()

    floor.engine.on_swap = swapped
    mesh.on_peers(RevokedPeers(segments, lambda: peer_states(mesh)).look)
    hosts = PeerHost(
        segments, saying.commands, sessions, saying.subjects, clock=tools.clock, check_asker=lists.require_fresh
    )
    services: list[Service] = [WatchfulSecurity(security, floor.devices), floor.policy, saying.onward, segments]
    services += [lists, hosts, visitor, watches, DeviceRoom(floor.devices), greetings]
    if config.listener.listen or config.listener.listen_tls:
        services.append(listener)
    if intake is not None:
        services.append(intake)
    return Gateway(desks, tuple(services))


def _office(tools: Tools, floor: _Floor, saying: _Saying, watches: WatchDesk) -> SegmentOffice:
    def acted(who: str, what: str, to: str) -> None:
        floor.security.audit.record(AuditKind.ACT, subject=to, action=what, actor=who)

    def waiting() -> OnwardView | None:
        return saying.onward.view() if tools.config.devices.onward.recipient else None

    return SegmentOffice(saying.segments, saying.commands, watches, waiting, acted=acted)


async def _broker_access(tools: Tools, broker: ChildBroker | None) -> _BrokerAccess:
    config, outside = tools.config.broker, outside_broker(tools)
    kept = await asyncio.to_thread(BrokerCredentials, config)

    def locate() -> Endpoint | None:
        found = broker.endpoint() if broker is not None else outside
        if found is None or found.username:
            return found
        return replace(found, username=config.username, password=kept.password)

    return _BrokerAccess(locate, kept)


async def _open_floor(tools: Tools, bus: Bus, access: _BrokerAccess, keys: KeyStore) -> _Floor:
    config, identity, thread, guard = tools.config, tools.identity, CryptoThread(), LateGuard()
    engine, history = PolicyEngine(), TrustHistory()
    policy = PolicyService(
        engine,
        identity.trust,
        config.security.policy,
        bus=bus,
        shelf=tools.store,
        clock=tools.clock,
        metrics=tools.metrics,
    )
    await policy.open()
    devices = await open_devices(
        config.devices.sessions,
        config.devices.enrolment,
        NodeIdentity(identity.fleet, identity.node, identity.key, identity.shown),
        DeviceTools(tools.store, tools.clock, tools.random_bytes, random.SystemRandom().random, tools.metrics),
        address=lambda: _address(guard.listener, access),
        keys=StoredDeviceKeys(identity.node, keys),
        history=history,
    )
    chain = identity.shown
    herald = FleetHerald(
        identity.fleet, identity.node, identity.key, chain, identity.trust, bus=bus, thread=thread, clock=tools.clock
    )
    security = history.security = SecurityService(
        identity.node,
        config.security,
        store=tools.store,
        folder=Path(config.node.state_dir) / "audit",
        key=identity.key,
        subjects=DeviceSubjects(devices.registry),
        containment=devices.administrator,
        guard=guard,
        herald=herald,
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
    )
    return _Floor(engine, policy, devices, security, guard, thread)


async def _make_saying(tools: Tools, floor: _Floor, bus: Bus, mesh: MeshService, spool: Store) -> _Saying:
    config, down = tools.config.devices, Downward()
    uplink = await _make_uplink(tools, floor, bus)

    def denied(subject: Subject | None, action: Action, resource: Resource, decision: Decision) -> None:
        floor.security.denied(subject, action, resource, decision, tools.clock.now_ns(), tools.clock.utc_ns())

    gate = UpstreamGate(floor.engine, denied, None, clock=tools.clock, metrics=tools.metrics)
    onward = gate.onward = OnwardService(
        config.onward, spool, uplink, clock=tools.clock, metrics=tools.metrics, may_send=gate.may_send
    )
    apps = frozenset(app for segment in config.segments.values() for app in segment.apps) | set(tools.config.http.apps)
    devices = DeviceSubjects(floor.devices.registry)
    counts = frozenset(PeerState) - {PeerState.REVOKED}
    subjects = Directory(devices.find, apps.__contains__, lambda name: peer_states(mesh).get(name) in counts)
    ledger = GatewayLedger(spool)
    segments = SegmentService(
        tools.identity.fleet,
        tools.identity.node,
        config.segments,
        config.group_keys,
        judge=floor.engine,
        subjects=subjects,
        downlink=down,
        bus=bus,
        keep=ledger,
        onward=gate,
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
        denied=denied,
    )
    commands = CommandDesk(
        floor.engine,
        subjects,
        down,
        ledger,
        clock=tools.clock,
        metrics=tools.metrics,
        random_bytes=tools.random_bytes,
        denied=denied,
    )
    segments.bind(answers=commands)
    return _Saying(segments, commands, onward, subjects, down, gate, denied)


def _make_ways(
    tools: Tools,
    floor: _Floor,
    saying: _Saying,
    access: _BrokerAccess,
    enforcement: Enforcement,
    desk: GreetingDesk,
    pace: Pace,
) -> tuple[Listener, BrokerIntake | None]:
    config, identity, administrator = tools.config.devices, tools.identity, floor.devices.administrator
    throttles = Throttles(config.listener.messages_per_s)
    listener = Listener(
        config.listener,
        fleet=identity.fleet,
        node=identity.node,
        enforcement=enforcement,
        doorman=floor.devices.doorman,
        desk=desk,
        pace=pace,
        throttles=throttles,
        clock=tools.clock,
        metrics=tools.metrics,
        keeper=saying.onward,
        audience=saying.segments,
    )
    intake = None
    if config.broker.enabled:
        intake = BrokerIntake(
            config.broker,
            access.locate,
            fleet=identity.fleet,
            node=identity.node,
            enforcement=enforcement,
            desk=desk,
            throttles=throttles,
            clock=tools.clock,
            metrics=tools.metrics,
            uniform=random.SystemRandom().random,
            tls=lambda: access.credentials.tls,
            keeper=saying.onward,
            between=listener.lanes.serve_urgent,
        )
    ways: list[Way] = [listener] if intake is None else [listener, intake]
    enforcement.connect(ways)
    for way in (*ways, SegmentDoor(saying.segments)):
        administrator.add_way(way)
    administrator.set_limiter(listener)
    saying.segments.bind(ways=ways)
    floor.guard.listener = listener
    return listener, intake


async def _make_uplink(tools: Tools, floor: _Floor, bus: Bus) -> Uplink:
    identity, file = tools.identity, tools.config.devices.onward.recipient
    if not file:
        return NoUplink()
    recipient = read_recipient(await asyncio.to_thread(Path(file).read_text, "ascii"))

    async def sign(header: Header, body: msgspec.Struct) -> bytes:
        return await floor.thread.run(sign_envelope, header, body, identity.key, identity.shown)

    sealer = OnwardSealer(identity.fleet, identity.node, recipient)
    return BusUplink(identity.fleet, identity.node, bus, sealer, sign, clock=tools.clock)


def _address(listener: Listener | None, access: _BrokerAccess) -> str:
    """Return where devices connect: the listener, or else the broker."""
    listening = listener.view().addresses if listener is not None else ()
    if listening:
        host, _, port = listening[0].rpartition(":")
        return f"mqtt://{os.uname().nodename if host in _EVERYWHERE else host}:{port}"
    broker = access.locate()
    return f"mqtt://{broker.host}:{broker.port}" if broker is not None else ""


def _view(
    floor: _Floor,
    enforcement: Enforcement,
    listener: Listener,
    intake: BrokerIntake | None,
    segments: SegmentService,
    metrics: Metrics,
) -> GatewayView:
    enforcement.flush()  # what was counted up to this moment
    heard, states = listener.view(), floor.devices.registry.states()
    policy = floor.policy.view()
    return GatewayView(
        devices=sum(states.values()),
        states=states,
        sessions=len(floor.devices.sessions),
        connections=heard.connections,
        addresses=heard.addresses,
        tls=heard.tls,
        paused=heard.paused,
        through_broker=intake is not None and intake.connected,
        taken=round(metrics.value("qedge_device_messages_total", ("taken",))),
        denied=round(metrics.value("qedge_device_messages_total", ("denied",))),
        incidents=len(floor.security.incidents),
        policy_rules=policy.rules,
        policy_source=policy.source,
        segments=tuple(view.name for view in segments.views()),
        refused=round(sum(metrics.value("qedge_device_messages_total", (each,)) for each in _REFUSED)),
    )
