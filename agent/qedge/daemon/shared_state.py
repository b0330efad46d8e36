"""The shared state of one daemon, put together, and those who keep something in it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.service import Service
from qedge.bus.service import Bus
from qedge.daemon.peers import Tools
from qedge.engine.templates import Templates
from qedge.mesh.crypto_thread import CryptoThread
from qedge.mesh.service import MeshService
from qedge.mesh.sessions import SessionService
from qedge.orchestrator.state.book import rules_of
from qedge.orchestrator.state.proof import Signer
from qedge.orchestrator.state.service import StateService
from qedge.orchestrator.state.users.policies import PolicyFollower, PolicyHolder
from qedge.orchestrator.state.users.reports import NodeReports
from qedge.orchestrator.state.users.templates import SharedTemplates
from qedge.wire.mesh import PeerState
from qedge.wire.node import DriverView
from qedge.wire.state import StatePut, StateRow, StateRows

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


class MeshStatePeers:
    """Fills `StatePeers` from the mesh and its sessions."""

    def __init__(self, mesh: MeshService, sessions: SessionService) -> None:
        self._mesh = mesh
        self._sessions = sessions
        self._alive: tuple[str, ...] | None = None
        mesh.on_peers(self._forget)

    def alive(self) -> Sequence[str]:
        """Name the peers that live; made anew only after a change."""
        if self._alive is None:
            views = self._mesh.peers().peers
            living = (PeerState.ALIVE, PeerState.SUSPECT)
            self._alive = tuple(view.node for view in views if not view.own and view.state in living)
        return self._alive

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask a node inside a session."""
        return await self._sessions.call(node, body, answer, deadline_s=deadline_s)

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer questions of peers."""
        self._sessions.serve(request, serve)

    def _forget(self) -> None:
        self._alive = None


class StateDesk:
    """Fills `StatePort` of the web room: what programs of this box may do with the shared state."""

    def __init__(self, state: StateService) -> None:
        self._state = state

    def listing(self, namespace: str) -> StateRows:
        """Return what is held, of one namespace or of all."""
        return self._state.listing(namespace)

    async def changes(self, namespace: str, since: int, wait_s: float) -> StateRows:
        """Return what came after a change, as soon as something did."""
        return await self._state.changes(namespace, since, wait_s)

    def find(self, namespace: str, key: str) -> StateRows:
        """Return all entries of a key, one of each writer where each has its own; raises `state.not_found`."""
        found = self._state.listing(namespace)
        rows = tuple(row for row in found.rows if row.key == key)
        if not rows:
            raise QedgeError("state.not_found", f"Nothing stands under {key!r} in {namespace}.")
        return msgspec.structs.replace(found, rows=rows)

    async def put(self, namespace: str, key: str, change: StatePut) -> StateRow:
        """Say something on behalf of an operator; raises `state.*`."""
        _check_operators(namespace)
        return await self._state.put(namespace, key, change.value)

    async def delete(self, namespace: str, key: str) -> StateRow:
        """Delete on behalf of an operator; raises `state.*`."""
        _check_operators(namespace)
        return await self._state.delete(namespace, key)


def _check_operators(namespace: str) -> None:
    if not rules_of(namespace).operators:
        raise QedgeError(
            "state.refused",
            f"Nodes alone write to {namespace}: each says there what it knows of itself.",
            fix="Operators write to `settings` and `models`.",
        )


class StateHost(Protocol):
    """The node, as far as the shared state needs it."""

    def drivers(self) -> Sequence[DriverView]:
        """Describe all configured drivers."""
        ...

    def attach_state(self, desk: StateDesk) -> None:
        """Take what serves programs."""
        ...


@dataclass(frozen=True, slots=True)
class StateParts:
    """The shared state, what serves programs, and all that is to run, in the order of its start."""

    state: StateService
    desk: StateDesk
    peers: MeshStatePeers
    services: tuple[Service, ...]


def make_state(
    tools: Tools,
    bus: Bus,
    sessions: SessionService,
    mesh: MeshService,
    templates: Templates,
    node: StateHost,
) -> StateParts:
    """Make the shared state and those of its users that every node has, and hand it to the node."""
    identity, peers = tools.identity, MeshStatePeers(mesh, sessions)
    state = StateService(
        identity.node,
        tools.config.state,
        Signer(identity.fleet, identity.node, identity.key, identity.shown),
        identity.trust,
        peers,
        bus=bus,
        store=tools.store,
        thread=CryptoThread(),
        clock=tools.clock,
        metrics=tools.metrics,
        uniform=random.SystemRandom().random,
    )
    mesh.is_elsewhere = state.is_gateway
    services = (state, SharedTemplates(state, templates, peers), NodeReports(state, peers, node.drivers, tools.clock))
    parts = StateParts(state, StateDesk(state), peers, services)
    node.attach_state(parts.desk)
    return parts


def follow_policy(parts: StateParts, policy: PolicyHolder) -> Service:
    """Make what keeps the fleet's policy at the highest serial, for nodes that enforce one."""
    return PolicyFollower(parts.state, policy, parts.peers)
