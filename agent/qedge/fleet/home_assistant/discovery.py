"""The device that Home Assistant is told of, and the state of its entities. Pure.

One retained JSON document on `{prefix}/device/{object_id}/config` describes the device and all its components
(abbreviated keys: `dev`, `o`, `cmps`, `p`); all of them read their value from one state document by a template. What is
taken out of a device is announced once with nothing but its platform, and then not any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.fleet.home_assistant.config import HomeAssistantConfig
from qedge.fleet.home_assistant.ports import SoftwareView
from qedge.wire.node import NodeStatus
from qedge.wire.telemetry import HealthState

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]
Component = dict[str, Json]
MAX_DRIVERS: Final = 32
MAX_LINKS: Final = 8
ONLINE: Final = b"online"
OFFLINE: Final = b"offline"
INSTALL: Final = b"INSTALL"
_UPDATE: Final = "{{ value_json.update | tojson }}"
_ENCODE: Final = msgspec.json.Encoder(order="deterministic").encode
_DECODER: Final = msgspec.json.Decoder(dict)


@dataclass(frozen=True, slots=True)
class Places:
    """Topics of one node, and the id that they share."""

    object_id: str
    config: str
    state: str
    availability: str
    status: str
    install: str


def places(config: HomeAssistantConfig, fleet: str, node: str) -> Places:
    """Return where a node's messages go."""
    object_id, base = f"qedge-{fleet}-{node}", f"{config.state_prefix}/{fleet}-{node}"
    return Places(
        object_id,
        f"{config.discovery_prefix}/device/{object_id}/config",
        f"{base}/state",
        f"{base}/availability",
        f"{config.discovery_prefix}/status",
        f"{base}/update/install",
    )


def discovery(status: NodeStatus, where: Places, *, install: bool = False) -> dict[str, Json]:
    """Describe the device with all its components; `install`: Home Assistant may start an update."""
    components = {name: dict(each) for name, each in _components(status).items()}
    components["update"] = _update(where.install if install else "")
    for name, each in components.items():
        each["unique_id"] = f"{where.object_id}-{name}"
    return {
        "dev": {
            "ids": [where.object_id],
            "name": f"qedge {status.node}",
            "mf": "qedge",
            "mdl": "quantum edge node",
            "sw": status.version,
            "sn": f"{status.fleet}/{status.node}",
        },
        "o": {"name": "qedge", "sw": status.version},
        "cmps": dict(components),
        "state_topic": where.state,
        "availability_topic": where.availability,
        "qos": 1,
    }


def without(document: Mapping[str, Json], stands: bytes) -> dict[str, Json] | None:
    """Return the document with what takes out components that only the one that stands has; None: there are none.

    `stands` is what the broker retains. Raises nothing: what cannot be read is replaced as a whole.
    """
    try:
        old, new = _DECODER.decode(stands).get("cmps"), document["cmps"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(old, dict) or not isinstance(new, dict):
        return None
    gone: dict[str, Json] = {}
    for name, each in old.items():
        if name not in new and isinstance(each, dict) and len(each) > 1 and isinstance(each.get("p"), str):
            gone[name] = {"p": each["p"]}
    return {**document, "cmps": {**new, **gone}} if gone else None


def state(
    status: NodeStatus, health: HealthState, software: SoftwareView | None = None, release_url: str = ""
) -> dict[str, Json]:
    """Return the values of all entities; without `software` the installed version is the latest."""
    host, gateway = status.host, status.gateway
    values: dict[str, Json] = {
        "update": _versions(software or SoftwareView(status.version, status.version), release_url),
        "problem": _flag(health is not HealthState.UP),
        "health": health.value,
        "cpu": round(host.cpu_ratio * 100, 1),
        "memory_free": host.memory_available_bytes,
        "disk_free": host.disk_free_bytes,
        "temperature": round(host.temperature_celsius, 1) if host.temperature_celsius else None,
        "power": round(host.power_watts, 1) if host.power_watts else None,
        "jobs_queued": status.jobs_queued,
        "jobs_running": status.jobs_running,
        "jobs_done": status.jobs_done,
        "jobs_failed": status.jobs_failed,
        "entropy": _flag(status.entropy.healthy),
        "drivers": {each.name: _flag(each.operating_state != "down") for each in status.drivers[:MAX_DRIVERS]},
        "links": {
            each.name: {"key_rate": round(each.key_bit_s, 1), "qber": round(each.qber * 100, 2)}
            for each in status.links[:MAX_LINKS]
        },
    }
    if gateway is not None:
        values["devices"] = gateway.devices
        values["device_sessions"] = gateway.sessions
        values["incidents"] = gateway.incidents
    return values


def written(document: Mapping[str, Json]) -> bytes:
    """Write a document."""
    return _ENCODE(dict(document))


def _components(status: NodeStatus) -> dict[str, Component]:
    found: dict[str, Component] = {
        "problem": _binary("Problem", "problem", "problem"),
        "health": _sensor("Health", "health", device_class="enum", options=[each.value for each in HealthState]),
        "cpu": _measure("Processor", "cpu", "%", icon="mdi:cpu-64-bit"),
        "memory_free": _measure("Free memory", "memory_free", "B", device_class="data_size"),
        "disk_free": _measure("Free disk", "disk_free", "B", device_class="data_size"),
        "temperature": _measure("Temperature", "temperature", "°C", device_class="temperature"),
        "power": _measure("Power", "power", "W", device_class="power"),
        "jobs_queued": _count("Jobs waiting", "jobs_queued", "measurement"),
        "jobs_running": _count("Jobs running", "jobs_running", "measurement"),
        "jobs_done": _count("Jobs done", "jobs_done", "total_increasing"),
        "jobs_failed": _count("Jobs failed", "jobs_failed", "total_increasing"),
        "entropy": _binary("Quantum entropy", "entropy", None),
    }
    for driver in status.drivers[:MAX_DRIVERS]:
        path = f"drivers[{_quoted(driver.name)}]"
        found[f"driver-{driver.name}"] = _binary(f"Driver {driver.name}", path, "running")
    for link in status.links[:MAX_LINKS]:
        path = f"links[{_quoted(link.name)}]"
        found[f"link-{link.name}-key-rate"] = _measure(
            f"Link {link.name} key rate", f"{path}.key_rate", "bit/s", device_class="data_rate"
        )
        found[f"link-{link.name}-qber"] = _measure(f"Link {link.name} error rate", f"{path}.qber", "%")
    if status.gateway is not None:
        found["devices"] = _count("Devices", "devices", "measurement")
        found["device_sessions"] = _count("Device sessions", "device_sessions", "measurement")
        found["incidents"] = _count("Open incidents", "incidents", "measurement")
    return found


def _sensor(name: str, path: str, **more: Json) -> Component:
    return {"p": "sensor", "name": name, "value_template": f"{{{{ value_json.{path} }}}}", **more}


def _measure(name: str, path: str, unit: str, **more: Json) -> Component:
    return _sensor(name, path, unit_of_measurement=unit, state_class="measurement", **more)


def _count(name: str, path: str, state_class: str) -> Component:
    return _sensor(name, path, state_class=state_class)


def _binary(name: str, path: str, device_class: str | None) -> Component:
    kind: Component = {} if device_class is None else {"device_class": device_class}
    return {"p": "binary_sensor", "name": name, "value_template": f"{{{{ value_json.{path} }}}}", **kind}


def _update(install: str) -> Component:
    """Describe the update entity (`update.mqtt`); without a command topic people see it and cannot start it.

    Its state is a document of its own within the state: `installed_version`, `latest_version`, `in_progress`.
    """
    command: Component = {"command_topic": install, "payload_install": INSTALL.decode()} if install else {}
    return {"p": "update", "name": "Software", "title": "qedge", "value_template": _UPDATE, **command}


def _versions(software: SoftwareView, release_url: str) -> dict[str, Json]:
    found: dict[str, Json] = {
        "installed_version": software.installed,
        "latest_version": software.latest,
        "in_progress": software.in_progress,
    }
    if release_url:
        found["release_url"] = release_url.replace("{version}", software.latest)
    return found


def _flag(on: bool) -> str:
    return "ON" if on else "OFF"


def _quoted(name: str) -> str:
    """Quote a name for a template; names are letters, digits, `-` and `_`."""
    return f"'{name}'"
