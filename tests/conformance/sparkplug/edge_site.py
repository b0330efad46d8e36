"""An edge node with fakes at all its ports, against servers of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.model import Endpoint
from qedge.fleet.sparkplug.model import COUNTER, DataType, Metric, Past, Payload, Reading, Snapshot, Value
from qedge.fleet.sparkplug.payload import encode_payload
from qedge.fleet.sparkplug.ports import Spool, Spooled
from qedge.fleet.sparkplug.servers import Server
from qedge.fleet.sparkplug.service import SparkplugService
from qedge.fleet.sparkplug.session import Rules
from qedge.fleet.sparkplug.topics import Topics

TOPICS = Topics("plant", "box-1")
RULES = Rules(TOPICS, keepalive_s=5.0, rebirth_gap_s=0.0, births_per_s=100_000.0, deadband_ratio=0.0)


class FakeReadings:
    """What the test says."""

    def __init__(self) -> None:
        self.node: dict[str, Reading] = {}
        self.devices: dict[str, dict[str, Reading]] = {}

    def set(
        self, name: str, value: Value | None, utc_ms: int, kind: DataType = DataType.INT64, device: str = ""
    ) -> None:
        """Set a metric of the node or of a device."""
        (self.devices.setdefault(device, {}) if device else self.node)[name] = Reading(kind, value, utc_ms)

    def snapshot(self, utc_ms: int) -> Snapshot:
        """Return a copy."""
        return Snapshot(dict(self.node), {name: dict(each) for name, each in self.devices.items()})


class FakeControls:
    """Writes down what hosts write; refuses values of `refuse`."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, str, Value]] = []
        self.refuse: set[Value] = set()

    async def write(self, device: str, name: str, value: Value) -> None:
        """Take a write."""
        if value in self.refuse:
            raise QedgeError("sparkplug.bad_value", "No.")
        self.writes.append((device, name, value))


class MemorySpool:
    """A spool that lasts as long as the test."""

    def __init__(self) -> None:
        self.rows: list[Spooled] = []
        self.erased: list[int] = []
        self._last = 0
        self.full = False

    async def keep(self, rows: Sequence[Past]) -> None:
        """Append."""
        if self.full:
            raise QedgeError("store.disk_full", "Full.")
        for row in rows:
            self._last += 1
            self.rows.append(Spooled(self._last, row))

    async def batch(self, limit: int) -> Sequence[Spooled]:
        """Return the oldest."""
        return self.rows[:limit]

    async def done(self, up_to: int) -> None:
        """Erase."""
        self.erased.append(up_to)
        self.rows = [row for row in self.rows if row.id > up_to]


class MemoryBdSeq:
    """A counter that outlasts services, as the file does."""

    def __init__(self, taken: int = 0) -> None:
        self.taken = taken

    async def next(self) -> int:
        """Return the next."""
        self.taken += 1
        return (self.taken - 1) % COUNTER


@dataclass
class EdgeSite:
    """All that a service was made of."""

    service: SparkplugService
    readings: FakeReadings
    controls: FakeControls
    spool: MemorySpool
    metrics: Metrics
    task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run the service."""
        self.task = asyncio.create_task(self.service.run(lambda: None))

    async def stop(self) -> None:
        """Stop it as the supervisor does."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


def make_site(
    ports: Sequence[int],
    rules: Rules = RULES,
    *,
    bd_seq: MemoryBdSeq | None = None,
    spool: Spool | None = None,
    servers: Sequence[Server] = (),
    readings: FakeReadings | None = None,
    sample_s: float = 0.02,
) -> EdgeSite:
    """Make a service for servers on these ports."""
    metrics, found = Metrics(), readings or FakeReadings()
    controls, memory = FakeControls(), spool if isinstance(spool, MemorySpool) else MemorySpool()
    service = SparkplugService(
        replace(rules, servers=len(ports)),
        lambda: servers or [Server(Endpoint("127.0.0.1", port, "external")) for port in ports],
        client_id="qedge-test",
        sample_s=sample_s,
        connect_timeout_s=2.0,
        reconnect_cap_s=0.05,
        readings=found,
        controls=controls,
        spool=spool or memory,
        bd_seq=bd_seq or MemoryBdSeq(),
        clock=SystemClock(),
        metrics=metrics,
        uniform=lambda: 0.02,
    )
    return EdgeSite(service, found, controls, memory, metrics)


@asynccontextmanager
async def running(site: EdgeSite) -> AsyncIterator[EdgeSite]:
    """Run a site."""
    site.start()
    try:
        yield site
    finally:
        await site.stop()


def command(*metrics: Metric, at_ms: int = 1) -> bytes:
    """Write an NCMD or DCMD as a host does."""
    return encode_payload(Payload(at_ms, metrics))


def rebirth(value: Value = True) -> bytes:
    """Write a request for a rebirth."""
    return command(Metric("Node Control/Rebirth", DataType.BOOLEAN, value, 1))
