"""The Sparkplug edge node put together: its readings are the node's status, its devices are the drivers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from qedge.base.errors import QedgeError
from qedge.daemon.peers import Tools
from qedge.fleet.sparkplug.bd_seq import BdSeqFile
from qedge.fleet.sparkplug.model import Past, Snapshot, Value
from qedge.fleet.sparkplug.node_metrics import DRAIN, LOCKED, snapshot_of
from qedge.fleet.sparkplug.ports import Spool, Spooled
from qedge.fleet.sparkplug.servers import read_servers
from qedge.fleet.sparkplug.service import SparkplugService
from qedge.fleet.sparkplug.session import Rules
from qedge.fleet.sparkplug.spool import DatabaseSpool
from qedge.fleet.sparkplug.topics import Topics
from qedge.wire.node import DrainChange, DrainView, DriverChange, DriverView, NodeStatus

FILE: Final = "sparkplug.bdseq"


class NodeOfSparkplug(Protocol):
    """What the edge node asks of the daemon's node."""

    def status(self) -> NodeStatus:
        """Describe the whole node."""
        ...

    def drain_view(self) -> DrainView:
        """Describe how far a drain is."""
        ...

    async def drain(self, change: DrainChange) -> DrainView:
        """Give jobs away and take no new ones, or undo that."""
        ...

    async def change_driver(self, name: str, change: DriverChange) -> DriverView:
        """Lock or unlock a driver."""
        ...


class NodeReadings:
    """Implements `Readings`."""

    def __init__(self, node: NodeOfSparkplug, writable: frozenset[str]) -> None:
        self._node = node
        self._writable = writable

    def snapshot(self, utc_ms: int) -> Snapshot | None:
        """Return the status of the node as metrics; None while it is starting."""
        try:
            draining = self._node.drain_view().state != "open"
            return snapshot_of(self._node.status(), utc_ms, draining=draining, writable=self._writable)
        except QedgeError:
            return None


class NodeControls:
    """Implements `Controls`: drains the node, locks drivers. What cannot be undone is not offered here."""

    def __init__(self, node: NodeOfSparkplug) -> None:
        self._node = node

    async def write(self, device: str, name: str, value: Value) -> None:
        """Carry out a write; raises `sparkplug.not_offered`, or what the node raises."""
        if not device and name == DRAIN:
            await self._node.drain(DrainChange(undo=value is not True))
        elif device and name == LOCKED:
            await self._node.change_driver(device, DriverChange("locked" if value is True else "unlocked"))
        else:
            raise QedgeError(
                "sparkplug.not_offered", f"{name} cannot be written.", fix="Correct fleet.sparkplug.writable."
            )


class NoSpool:
    """Implements `Spool` where nothing is kept: what is not sent in its time is not sent."""

    async def keep(self, rows: Sequence[Past]) -> None:
        """Drop readings."""

    async def batch(self, limit: int) -> Sequence[Spooled]:
        """Return none."""
        return ()

    async def done(self, up_to: int) -> None:
        """Do nothing."""


class KeptBdSeq:
    """Implements `BdSeqKeep`: the disk is waited for in a thread."""

    def __init__(self, file: BdSeqFile) -> None:
        self._file = file

    async def next(self) -> int:
        """Take the next number; raises `OSError`."""
        return await asyncio.to_thread(self._file.take)


def _make_spool(tools: Tools) -> Spool:
    config = tools.config.fleet.sparkplug
    if not config.history_rows:
        return NoSpool()
    return DatabaseSpool(
        tools.store,
        max_rows=config.history_rows,
        max_age_s=config.history_s,
        clock=tools.clock,
        metrics=tools.metrics,
    )


def make_sparkplug(tools: Tools, node: NodeOfSparkplug) -> SparkplugService | None:
    """Make the edge node; None where it is off."""
    config = tools.config.fleet.sparkplug
    if not config.enabled or not config.servers:
        return None
    topics = Topics(config.group or tools.identity.fleet, config.node or tools.identity.node)
    writable = frozenset(config.writable)
    rules = Rules(
        topics,
        primary_host=config.primary_host,
        writable=writable,
        servers=len(config.servers),
        keepalive_s=config.keepalive_s,
        state_timeout_s=config.state_timeout_s,
        births_per_s=config.births_per_s,
        rebirth_gap_s=config.rebirth_gap_s,
        replay_per_s=config.replay_per_s,
        deadband_ratio=config.deadband_ratio,
    )
    uniform: Callable[[], float] = random.SystemRandom().random
    return SparkplugService(
        rules,
        lambda: read_servers(config),
        client_id=config.client_id or f"qedge-{topics.group}-{topics.node}-spb",
        sample_s=config.sample_s,
        connect_timeout_s=config.connect_timeout_s,
        reconnect_cap_s=config.reconnect_cap_s,
        readings=NodeReadings(node, writable),
        controls=NodeControls(node),
        spool=_make_spool(tools),
        bd_seq=KeptBdSeq(BdSeqFile(Path(tools.config.node.state_dir) / FILE, f"{topics.group}/{topics.node}")),
        clock=tools.clock,
        metrics=tools.metrics,
        uniform=uniform,
    )
