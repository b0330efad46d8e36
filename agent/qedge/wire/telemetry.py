"""What a node says of itself to those who watch a fleet: readings, health, events and alarms, in batches.

A batch is of one class and comes on `…/{node}/telemetry/{class}`, signed by the node. Its items are numbered by class;
`spool` names the file that the numbers are of, so that an item that comes twice is known by spool, class and number,
and a gap between numbers is what gave way at the node. Items marked `historical` waited for the connection: they come
in order among themselves while newer ones go ahead of them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from qedge.wire.mesh import Name, Short
from qedge.wire.trust import Utc

MAX_ITEMS = 1024
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class TelemetryClass(StrEnum):
    """Classes of telemetry, from the first to be sent to the first to give way."""

    ALARM = "alarm"
    EVENT = "event"
    HEALTH = "health"
    READING = "reading"


class Severity(StrEnum):
    """How bad it is."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"
    WARNING = "warning"


class HealthState(StrEnum):
    """How a node is."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


class HostReading(msgspec.Struct, frozen=True, tag_field="type", tag="host"):
    """The host: a share from 0 to 1, bytes, °C and watts; 0 where the host does not tell."""

    cpu_ratio: float
    memory_available_bytes: int
    memory_total_bytes: int
    disk_free_bytes: int
    temperature_celsius: float
    power_watts: float


class DriverReading(msgspec.Struct, frozen=True, tag_field="type", tag="driver"):
    """One driver: whether it works, and how often its workers were replaced since the daemon started."""

    driver: Name
    kind: Short
    up: bool
    restarts: int


class JobsReading(msgspec.Struct, frozen=True, tag_field="type", tag="jobs"):
    """Jobs that wait and run now, and those that ended since the database began."""

    queued: int
    running: int
    done: int
    failed: int


class LinkReading(msgspec.Struct, frozen=True, tag_field="type", tag="link"):
    """One QKD link: raw error rate (0 to 1, −1 before the first window), key in bit/s and in all, blocks."""

    link: Name
    qber: float
    key_bit_s: float
    key_bits: int
    blocks: int
    blocks_dropped: int


class EntropyReading(msgspec.Struct, frozen=True, tag_field="type", tag="entropy"):
    """The random pool: whether a quantum source takes part, raw bits read and failed health tests."""

    healthy: bool
    raw_bits: int
    failures: int


class GatewayReading(msgspec.Struct, frozen=True, tag_field="type", tag="gateway"):
    """Totals of the gateway for attached devices; single devices do not appear here."""

    devices: int
    sessions: int
    connections: int
    taken: int
    refused: int
    denied: int
    incidents: int


class NodeHealth(msgspec.Struct, frozen=True, tag_field="type", tag="health"):
    """How the node is and, where it is not well, why."""

    state: HealthState
    reasons: Annotated[tuple[Short, ...], msgspec.Meta(max_length=32)] = ()
    version: Short = ""
    uptime_s: float = 0.0


class TelemetryEvent(msgspec.Struct, frozen=True, tag_field="type", tag="event"):
    """Something happened: `name` as in `driver.up`, `subject` is what it happened to."""

    name: Short
    subject: Name
    text: Short


class Alarm(msgspec.Struct, frozen=True, tag_field="type", tag="alarm"):
    """Something is wrong (`active`) or is right again. An alarm is known by `name` and `subject`."""

    name: Name
    subject: Name
    severity: Severity
    active: bool
    text: Short
    since_utc_ns: Utc


Telemetry = (
    HostReading
    | DriverReading
    | JobsReading
    | LinkReading
    | EntropyReading
    | GatewayReading
    | NodeHealth
    | TelemetryEvent
    | Alarm
)


class TelemetryItem(msgspec.Struct, frozen=True, array_like=True):
    """One item: its number in its class, when it was made, what it says, and whether it waited for the connection."""

    sequence: Number
    utc_ns: Utc
    body: Telemetry
    historical: bool = False


class TelemetryBatch(msgspec.Struct, frozen=True, tag_field="type", tag="telemetry/1"):
    """Items of one class, in order."""

    spool: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
    kind: TelemetryClass
    items: Annotated[tuple[TelemetryItem, ...], msgspec.Meta(max_length=MAX_ITEMS)]


class TelemetryLane(msgspec.Struct, frozen=True):
    """One class at the node: what waits, since when, and what gave way by reason."""

    kind: TelemetryClass
    waiting: int
    waiting_bytes: int
    oldest_s: float
    sent: int
    dropped: dict[str, int] = {}


class TelemetryView(msgspec.Struct, frozen=True, tag_field="type", tag="telemetry-status/1"):
    """How telemetry of this node stands. `replaying`: items that waited and are on their way; `problem` a code."""

    enabled: bool
    up: bool = False
    spool: str = ""
    in_memory: int = 0
    replaying: int = 0
    lanes: tuple[TelemetryLane, ...] = ()
    problem: str = ""
    adapters: dict[str, str] = {}
