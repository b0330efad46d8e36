"""What a node tells its SCADA system: the status of the node and of its drivers as Sparkplug metrics. Pure.

Types are Int64, Double, Boolean and String alone, since peers do not agree on the encoding of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qedge.fleet.sparkplug.model import DataType, Quality, Reading, Snapshot, Value
from qedge.wire.node import DriverView, NodeStatus

LOCKED: Final = "Device Control/Locked"
DRAIN: Final = "Node Control/Drain"
MAX_PROPERTIES: Final = 64
_DOWN: Final = "down"
_LOCKED: Final = "locked"
_TYPES: Final = {
    bool: DataType.BOOLEAN,
    int: DataType.INT64,
    float: DataType.DOUBLE,
    str: DataType.STRING,
}
_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Described:
    """A metric in words, for the guide; `name` may hold NAME."""

    name: str
    datatype: DataType
    words: str


NODE_METRICS: Final = (
    Described("Properties/Version", DataType.STRING, "version of qedge"),
    Described("Properties/Boot ID", DataType.STRING, "changes with every boot of the box"),
    Described("Node/Ready", DataType.BOOLEAN, "everything essential works"),
    Described("Node/Not Ready", DataType.STRING, "what is missing for that"),
    Described("Node/Draining", DataType.BOOLEAN, "the node takes no new jobs"),
    Described("Host/CPU Ratio", DataType.DOUBLE, "busy share of all cores, 0 to 1"),
    Described("Host/Memory Available MiB", DataType.DOUBLE, "memory that can be used without swapping"),
    Described("Host/Disk Free MiB", DataType.DOUBLE, "free space of the state directory"),
    Described("Host/Temperature Celsius", DataType.DOUBLE, "null where the host does not tell"),
    Described("Host/Power Watts", DataType.DOUBLE, "null where the host does not tell"),
    Described("Host/Clock Steps", DataType.INT64, "steps of the wall clock since the start"),
    Described("Host/Verdict", DataType.STRING, "ok, degraded, critical or unknown"),
    Described("Jobs/Queued", DataType.INT64, "jobs that wait"),
    Described("Jobs/Running", DataType.INT64, "jobs that run"),
    Described("Jobs/Done", DataType.INT64, "jobs that ended well, since the start"),
    Described("Jobs/Failed", DataType.INT64, "jobs that failed, since the start"),
    Described("Entropy/Healthy", DataType.BOOLEAN, "the pool is fed by a quantum source that passes its tests"),
    Described("Entropy/Failures", DataType.INT64, "failed tests of the source"),
    Described("Bus/Connected", DataType.BOOLEAN, "connection to the node's own MQTT broker"),
    Described("Links/NAME/State", DataType.STRING, "state of a QKD link; quality is BAD while it is quarantined"),
    Described("Links/NAME/QBER", DataType.DOUBLE, "raw error rate of the last window, null before the first"),
    Described("Links/NAME/Key Bits", DataType.INT64, "bits of key since the start"),
    Described("Links/NAME/Key Bit Rate", DataType.DOUBLE, "bits of key a second, over the last blocks"),
    Described("Gateway/Devices", DataType.INT64, "attached devices; only where the node takes any"),
    Described("Gateway/Sessions", DataType.INT64, "attached devices with a session"),
    Described("Gateway/Messages Taken", DataType.INT64, "messages of devices since the start"),
    Described("Gateway/Messages Denied", DataType.INT64, "of those refused, by policy"),
    Described("Gateway/Open Incidents", DataType.INT64, "incidents that are not resolved"),
)
"""What the NBIRTH holds beside `bdSeq` and `Node Control/…`."""

DEVICE_METRICS: Final = (
    Described("Properties/Driver", DataType.STRING, "name of the driver"),
    Described("Properties/Kind", DataType.STRING, "qpu, qkd, qrng and so on"),
    Described("Properties/Version", DataType.STRING, "version of the driver"),
    Described("Properties/Simulated", DataType.BOOLEAN, "no hardware is behind it"),
    Described(
        "State/Operating", DataType.STRING, "a driver that is down without being locked has a DDEATH, or no birth"
    ),
    Described("State/Admin", DataType.STRING, "what the operator wants of it"),
    Described("State/Reason", DataType.STRING, "why it is as it is"),
    Described("State/Restarts", DataType.INT64, "restarts of its workers"),
    Described("Facts/NAME", DataType.STRING, "what the driver says of itself; numbers are Double, yes and no Boolean"),
)
"""What the DBIRTH of a driver holds."""


def snapshot_of(status: NodeStatus, utc_ms: int, *, draining: bool, writable: frozenset[str]) -> Snapshot:
    """Put the status of a node into metrics; `writable` adds those that hosts may write."""
    node = _node(status, draining)
    if DRAIN in writable:
        node[DRAIN] = draining
    devices = {
        driver.name: _readings(_driver(driver, writable), utc_ms)
        for driver in status.drivers
        # a driver that its operator has locked is still there, so that it can be unlocked
        if driver.operating_state != _DOWN or driver.admin_state == _LOCKED
    }
    readings = _readings(node, utc_ms)
    for link in status.links:
        quality = Quality.BAD if link.state == "quarantined" else Quality.GOOD
        name = f"Links/{link.name}/State"
        readings[name] = Reading(DataType.STRING, link.state or link.verdict, utc_ms, quality)
    # there are hosts that do not tell these; a metric that is in the birth once must keep its type
    for name, told in (
        ("Host/Temperature Celsius", status.host.temperature_celsius),
        ("Host/Power Watts", status.host.power_watts),
    ):
        readings[name] = Reading(DataType.DOUBLE, round(told, 1) if told else None, utc_ms)
    for link in status.links:
        readings[f"Links/{link.name}/QBER"] = Reading(DataType.DOUBLE, link.qber if link.qber >= 0 else None, utc_ms)
    return Snapshot(readings, devices)


def _node(status: NodeStatus, draining: bool) -> dict[str, Value]:
    host = status.host
    found: dict[str, Value] = {
        "Properties/Version": status.version,
        "Properties/Boot ID": status.boot_id,
        "Node/Ready": status.ready,
        "Node/Not Ready": ", ".join(status.not_ready),
        "Node/Draining": draining,
        "Host/CPU Ratio": round(host.cpu_ratio, 2),
        "Host/Memory Available MiB": round(host.memory_available_bytes / _MIB, 1),
        "Host/Disk Free MiB": round(host.disk_free_bytes / _MIB, 1),
        "Host/Clock Steps": host.clock_steps,
        "Host/Verdict": host.verdict,
        "Jobs/Queued": status.jobs_queued,
        "Jobs/Running": status.jobs_running,
        "Jobs/Done": status.jobs_done,
        "Jobs/Failed": status.jobs_failed,
        "Entropy/Healthy": status.entropy.healthy,
        "Entropy/Failures": status.entropy.failures,
        "Bus/Connected": status.bus.connected,
    }
    for link in status.links:
        found[f"Links/{link.name}/Key Bits"] = link.key_bits
        found[f"Links/{link.name}/Key Bit Rate"] = float(link.key_bit_s)
    gateway = status.gateway
    if gateway is not None:
        found |= {
            "Gateway/Devices": gateway.devices,
            "Gateway/Sessions": gateway.sessions,
            "Gateway/Messages Taken": gateway.taken,
            "Gateway/Messages Denied": gateway.denied,
            "Gateway/Open Incidents": gateway.incidents,
        }
    return found


def _driver(driver: DriverView, writable: frozenset[str]) -> dict[str, Value]:
    found: dict[str, Value] = {
        "Properties/Driver": driver.driver,
        "Properties/Kind": driver.kind,
        "Properties/Version": driver.version,
        "Properties/Simulated": driver.simulated,
        "State/Operating": driver.operating_state,
        "State/Admin": driver.admin_state,
        "State/Reason": driver.reason,
        "State/Restarts": sum(worker.restarts for worker in driver.workers),
    }
    facts = [(name, fact) for name, fact in sorted(driver.properties.items()) if not isinstance(fact, list)]
    for name, fact in facts[:MAX_PROPERTIES]:
        # a number that is whole today may not be tomorrow, and another type is a new birth
        found[f"Facts/{name}"] = float(fact) if type(fact) is int else fact
    if LOCKED in writable:
        found[LOCKED] = driver.admin_state == _LOCKED
    return found


def _readings(values: Mapping[str, Value], utc_ms: int) -> dict[str, Reading]:
    return {
        name: Reading(_TYPES[type(value)], value, utc_ms) for name, value in values.items() if type(value) in _TYPES
    }
