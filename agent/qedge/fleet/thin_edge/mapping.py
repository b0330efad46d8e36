"""Telemetry in the words of thin-edge.io (its MQTT API, version 1 and 2). Pure.

Topics are `{root}/device/{device}/service/{service}/…`: always four levels of identifier, then a channel. Registration,
health, alarms, twin, metadata and capabilities are retained, measurements and events are not. Measurements have numbers
at most one level deep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from qedge.fleet.telemetry.model import Item
from qedge.fleet.thin_edge.config import ThinEdgeConfig
from qedge.wire.node import NodeStatus
from qedge.wire.telemetry import (
    Alarm,
    DriverReading,
    EntropyReading,
    GatewayReading,
    HealthState,
    HostReading,
    JobsReading,
    LinkReading,
    NodeHealth,
    TelemetryEvent,
)

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]
_ENCODE: Final = msgspec.json.Encoder(order="deterministic").encode
_RESERVED: Final = frozenset({"time", "type"})

UNITS: Final[Mapping[str, Mapping[str, str]]] = {
    "host": {
        "cpu_ratio": "1",
        "memory_available_bytes": "B",
        "memory_total_bytes": "B",
        "disk_free_bytes": "B",
        "temperature_celsius": "°C",
        "power_watts": "W",
    },
    "link": {"qber": "1", "key_bit_s": "bit/s", "key_bits": "bit"},
    "entropy": {"raw_bits": "bit"},
}
"""Units of measurements by type, for those that are more than counts."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be published, at QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False


class Words:
    """Writes messages of one service."""

    def __init__(self, config: ThinEdgeConfig) -> None:
        self.base = f"{config.root}/device/{config.device}/service/{config.service}"
        """Identifier of the service: what all its topics begin with."""

        self.device = f"{config.root}/device/{config.device}//"
        """Identifier of its device; the empty levels belong to it."""

        self._parent = f"device/{config.device}//"
        self._service = config.service

    def registration(self) -> Message:
        """Say that the service is there."""
        body = {"@type": "service", "@parent": self._parent, "name": self._service, "type": "systemd"}
        return Message(self.base, _ENCODE(body), retain=True)

    def health(self, state: HealthState, pid: int, utc_ns: int) -> Message:
        """Say how the service is; one that works although something is wrong is `up`."""
        status = "down" if state is HealthState.DOWN else "up"
        body = {"pid": pid, "status": status, "time": utc_ns // 10**9}
        return Message(f"{self.base}/status/health", _ENCODE(body), retain=True)

    def last_will(self, pid: int) -> Message:
        """Say that the service is gone; left with the broker."""
        return Message(f"{self.base}/status/health", _ENCODE({"pid": pid, "status": "down"}), retain=True)

    def metadata(self) -> tuple[Message, ...]:
        """Name the units of measurements."""
        return tuple(
            Message(f"{self.base}/m/{kind}/meta", _ENCODE({"units": dict(units)}), retain=True)
            for kind, units in UNITS.items()
        )

    def twin(self, status: NodeStatus) -> tuple[Message, ...]:
        """Describe what seldom changes."""
        facts: dict[str, dict[str, Json]] = {
            "node": {"fleet": status.fleet, "node": status.node, "version": status.version},
            "drivers": {
                driver.name: {"driver": driver.driver, "kind": driver.kind, "simulated": driver.simulated}
                for driver in status.drivers
            },
        }
        return tuple(Message(f"{self.base}/twin/{key}", _ENCODE(facts[key]), retain=True) for key in facts)

    def settings(self, settings: Mapping[str, Json]) -> Message:
        """Tell the settings that the service was started with; nothing secret may be among them."""
        return Message(f"{self.base}/config", _ENCODE(dict(settings)), retain=True)

    def capability(self, kind: str, about: Mapping[str, Json]) -> Message:
        """Say that a kind of command is carried out."""
        return Message(f"{self.base}/cmd/{kind}", _ENCODE(dict(about)), retain=True)

    def item(self, item: Item) -> Message | None:
        """Write an item; None for health, which has a topic of its own."""
        body, time = item.body, _iso(item.utc_ns)
        match body:
            case NodeHealth():
                return None
            case Alarm():
                return self.alarm(body)
            case TelemetryEvent():
                said = {"text": body.text, "time": time, "subject": body.subject}
                return Message(f"{self.base}/e/{body.name.replace('.', '_')}", _ENCODE(said))
            case DriverReading():
                return self._measurement("driver", {_key(body.driver): _numbers(body, "driver", "kind")}, time)
            case LinkReading():
                return self._measurement("link", {_key(body.link): _numbers(body, "link")}, time)
            case HostReading() | JobsReading() | EntropyReading() | GatewayReading():
                return self._measurement(str(body.__struct_config__.tag), _numbers(body), time)

    def alarm(self, alarm: Alarm) -> Message:
        """Raise an alarm, or clear it with an empty message."""
        topic = f"{self.base}/a/{alarm.name}_{alarm.subject}"
        if not alarm.active:
            return Message(topic, b"", retain=True)
        body = {"text": alarm.text, "severity": alarm.severity.value, "time": _iso(alarm.since_utc_ns)}
        return Message(topic, _ENCODE(body), retain=True)

    def _measurement(self, kind: str, numbers: Mapping[str, Json], time: str) -> Message:
        return Message(f"{self.base}/m/{kind}", _ENCODE({"time": time, **numbers}))


def _numbers(body: msgspec.Struct, *without: str) -> dict[str, Json]:
    """Return the fields of a reading as numbers; what is true or false becomes 1 or 0."""
    fields = ((name, getattr(body, name)) for name in body.__struct_fields__ if name not in without)
    return {name: int(value) if isinstance(value, bool) else value for name, value in fields}


def _key(name: str) -> str:
    """Return a name that thin-edge.io does not take for one of its own."""
    return f"x{name}" if name in _RESERVED or name.startswith("_") else name


def _iso(utc_ns: int) -> str:
    return datetime.fromtimestamp(utc_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
