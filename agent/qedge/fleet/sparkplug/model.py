"""Nouns of Sparkplug B 3.0: data types, metrics, payloads, readings, and what a session wants done.

Requirements of the specification are cited by their ids (`tck-id-…`) where they are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

Value = bool | int | float | str | bytes
"""What a metric can be worth here: scalars only, since arrays, data sets and templates are read by few hosts."""

BD_SEQ: Final = "bdSeq"
REBIRTH: Final = "Node Control/Rebirth"
NEXT_SERVER: Final = "Node Control/Next Server"
SCAN_RATE: Final = "Node Control/Scan Rate"
DEVICE_REBIRTH: Final = "Device Control/Rebirth"
LAST_COMMAND: Final = "Node Control/Last Command"
"""No answer to a command is defined, so its outcome shows in this metric."""

COUNTER: Final = 256
"""Both counters, `seq` and `bdSeq`, go from 0 to 255 and begin again."""


class DataType(IntEnum):
    """`datatype` of a metric (tck-id-payloads-metric-datatype-value)."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATE_TIME = 13
    TEXT = 14
    UUID = 15
    DATA_SET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19


class Quality(IntEnum):
    """The property `Quality` of a metric (tck-id-payloads-propertyset-quality-value-value)."""

    BAD = 0
    GOOD = 192
    STALE = 500


class Verb(StrEnum):
    """The message types of an edge node and of those who command it."""

    NBIRTH = "NBIRTH"
    NDATA = "NDATA"
    NDEATH = "NDEATH"
    NCMD = "NCMD"
    DBIRTH = "DBIRTH"
    DDATA = "DDATA"
    DDEATH = "DDEATH"
    DCMD = "DCMD"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as it stands in a payload.

    `value` None is sent as null. `datatype` None: it is left out, as DATA does; a metric that was read then has the
    value as it stood in its field. Times are milliseconds UTC; None: absent.
    """

    name: str = ""
    datatype: DataType | None = None
    value: Value | None = None
    timestamp_ms: int | None = None
    alias: int | None = None
    is_historical: bool = False
    quality: Quality = Quality.GOOD


@dataclass(frozen=True, slots=True)
class Payload:
    """A Sparkplug payload; `timestamp_ms` is milliseconds UTC, None and `seq` None: absent."""

    timestamp_ms: int | None = None
    metrics: tuple[Metric, ...] = ()
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a metric is worth: `value` None: not known; `utc_ms` is when it was read."""

    datatype: DataType
    value: Value | None
    utc_ms: int
    quality: Quality = Quality.GOOD


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is known now: metrics of the node, and of each device that is there."""

    node: Mapping[str, Reading] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, Reading]] = field(default_factory=dict)

    def of(self, owner: str) -> Mapping[str, Reading]:
        """Return the metrics of a device, or of the node for the empty name; empty where it is not there."""
        return self.devices.get(owner, {}) if owner else self.node


@dataclass(frozen=True, slots=True)
class Past:
    """A reading that was not sent in its time; `owner` is a device, empty: the node."""

    owner: str
    name: str
    reading: Reading


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the connection is lost: the NDEATH."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """Write this message now."""

    verb: Verb
    topic: str
    payload: bytes
    qos: int = 0
    historical: int = 0
    """How many of its metrics are historical."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Write a PINGREQ now; its number counts from 1."""

    number: int


class Parting(StrEnum):
    """Why a session ends."""

    STOPPED = "stopped"
    HOST_OFFLINE = "host_offline"
    NO_HOST = "no_host"
    NEXT_SERVER = "next_server"
    SILENT = "silent"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Leave:
    """The NDEATH is written: wait for its PUBACK, disconnect. `walk`: go to the next server of the list."""

    reason: Parting
    walk: bool


@dataclass(frozen=True, slots=True)
class Broken:
    """A PINGREQ was not answered in time: the connection is gone."""


@dataclass(frozen=True, slots=True)
class Rest:
    """There is nothing to write until this time of the boot clock, or until something new is heard or observed."""

    until_ns: int


Step = Send | Ping | Leave | Broken | Rest


@dataclass(frozen=True, slots=True)
class Write:
    """A host wants to write a value that it may write; `device` empty: the node."""

    device: str
    name: str
    value: Value
