"""What `qedge top` shows: one look at a node as plain facts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from qedge.wire.incidents import IncidentView
from qedge.wire.jobs import JobState, JobView
from qedge.wire.node import GatewayView

if TYPE_CHECKING:
    from qedge.wire.mesh import PeerList, PeerView
    from qedge.wire.node import LinkView, NodeStatus

_DIGITS: Final = re.compile(r"(\d{1,18})")
_OPEN: Final = (JobState.RUNNING, JobState.QUEUED)
_STATE_ORDER: Final = {"dead": 0, "suspect": 1, "duplicate": 2, "revoked": 3, "draining": 4, "alive": 5, "left": 6}


class NodeRow(msgspec.Struct, frozen=True):
    """One node. −1: not known here. `ours` counts jobs that this node gave it and that have not ended.

    `busy_ratio` is the share of its places for jobs that are taken, of the node that answers that of its processors.
    """

    node: str
    state: str
    own: bool = False
    heard_s: float = -1.0
    version: str = ""
    qpus: int = 0
    session: str = ""
    busy_ratio: float = -1.0
    queued: int = -1
    running: int = -1
    ours: int = 0


class LinkRow(msgspec.Struct, frozen=True):
    """One QKD link; `stored_bits` is key that nobody had yet, −1 where there is no store."""

    name: str
    peer: str
    state: str
    reason: str
    key_bit_s: float
    qber: float
    stored_bits: float = -1.0


class Look(msgspec.Struct, frozen=True, tag_field="type", tag="top/1"):
    """One look at a node."""

    utc_ns: int
    node: str
    fleet: str
    ready: bool
    not_ready: tuple[str, ...]
    uptime_s: float
    cpu_ratio: float
    memory_ratio: float
    nodes: tuple[NodeRow, ...]
    jobs: tuple[JobView, ...]
    jobs_queued: int
    jobs_running: int
    jobs_done: int
    jobs_failed: int
    links: tuple[LinkRow, ...]
    devices: GatewayView | None
    incidents: tuple[IncidentView, ...]
    taken_per_s: float = -1.0
    refused_per_s: float = -1.0


def look_of(
    status: NodeStatus,
    peers: PeerList,
    jobs: Sequence[JobView],
    *,
    stored_bits: Mapping[str, float],
    incidents: Sequence[IncidentView],
    before: Look | None,
) -> Look:
    """Put one look together; rates are those since the look `before`."""
    host, gateway = status.host, status.gateway
    used = 1 - host.memory_available_bytes / host.memory_total_bytes if host.memory_total_bytes else 0.0
    taken, refused = _rates(status, before)
    rows = [_node_row(peer, status, jobs) for peer in peers.peers]
    return Look(
        utc_ns=status.utc_ns,
        node=status.node,
        fleet=status.fleet,
        ready=status.ready,
        not_ready=status.not_ready,
        uptime_s=status.uptime_s,
        cpu_ratio=host.cpu_ratio,
        memory_ratio=used,
        nodes=tuple(sorted(rows, key=lambda row: (not row.own, _STATE_ORDER.get(row.state, 0), natural(row.node)))),
        jobs=tuple(sorted(jobs, key=lambda job: (job.state not in _OPEN, job.state != "running"))),
        jobs_queued=status.jobs_queued,
        jobs_running=status.jobs_running,
        jobs_done=status.jobs_done,
        jobs_failed=status.jobs_failed,
        links=tuple(_link_row(link, stored_bits) for link in status.links),
        devices=gateway,
        incidents=tuple(incidents),
        taken_per_s=taken,
        refused_per_s=refused,
    )


def _rates(status: NodeStatus, before: Look | None) -> tuple[float, float]:
    now = status.gateway
    if now is None or before is None or before.devices is None or status.utc_ns <= before.utc_ns:
        return -1.0, -1.0
    seconds = (status.utc_ns - before.utc_ns) / 1e9
    return (
        max(0.0, (now.taken - before.devices.taken) / seconds),
        max(0.0, (now.refused - before.devices.refused) / seconds),
    )


def _node_row(peer: PeerView, status: NodeStatus, jobs: Sequence[JobView]) -> NodeRow:
    session = peer.session
    sealed = session.path + (" +key" if session.extra_key else "") if session.state == "open" else session.state
    load = peer.load
    busy, queued, running = -1.0, -1, -1
    if peer.own:
        busy, queued, running = status.host.cpu_ratio, status.jobs_queued, status.jobs_running
    elif load is not None:
        running, queued = max(0, load.slots - load.free_slots), sum(load.queued)
        busy = running / load.slots if load.slots else -1.0
    return NodeRow(
        node=peer.node,
        state="draining" if load is not None and load.draining and peer.state == "alive" else peer.state.value,
        own=peer.own,
        heard_s=peer.heard_s,
        version=peer.version,
        qpus=sum(each.kind == "qpu" for each in peer.capabilities),
        session="this node" if peer.own else sealed,
        busy_ratio=busy,
        queued=queued,
        running=running,
        ours=0 if peer.own else sum(job.node == peer.node and job.state in _OPEN for job in jobs),
    )


def _link_row(link: LinkView, stored_bits: Mapping[str, float]) -> LinkRow:
    return LinkRow(
        name=link.name,
        peer=link.peer,
        state=link.state or ("measured" if link.qber >= 0 else "idle"),
        reason=link.reason or link.verdict,
        key_bit_s=link.key_bit_s if link.state else -1.0,
        qber=link.qber,
        stored_bits=stored_bits.get(link.name, -1.0),
    )


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts `box-2` before `box-10`."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in _DIGITS.split(name)]
