"""What Home Assistant is told keeps to the schema of its device discovery."""

from __future__ import annotations

import json
import re
from typing import Final

import msgspec
import pytest

from qedge.fleet.home_assistant.config import HomeAssistantConfig
from qedge.fleet.home_assistant.discovery import MAX_DRIVERS, discovery, places, state, without, written
from qedge.fleet.home_assistant.ports import SoftwareView
from qedge.wire.node import GatewayView, NodeStatus
from qedge.wire.telemetry import HealthState
from tests.unit.fleet.adapters.tool_site import ill, well

WHERE = places(HomeAssistantConfig(), "fleet", "box-1")

ROOT: Final = {
    "dev": (True, dict),
    "o": (True, dict),
    "cmps": (True, dict),
    "state_topic": (False, str),
    "command_topic": (False, str),
    "availability_topic": (False, str),
    "availability": (False, list),
    "payload_available": (False, str),
    "payload_not_available": (False, str),
    "qos": (False, int),
    "encoding": (False, str),
}
"""Keys of the document: required, and of which type. Nothing else may stand there."""

DEVICE: Final = {"ids", "cns", "cu", "mf", "mdl", "mdl_id", "name", "hw", "sn", "sw", "via_device", "sa"}
"""Keys of the device; one of `ids` and `cns` has to say something."""

ORIGIN: Final = {"name", "sw", "url"}
"""Keys of the origin, of which `name` is required."""

PLATFORMS: Final = {
    "sensor": {"device_class", "state_class", "unit_of_measurement", "options", "value_template", "icon", "name"},
    "update": {
        "command_topic",
        "device_class",
        "entity_picture",
        "latest_version_template",
        "latest_version_topic",
        "name",
        "payload_install",
        "release_summary",
        "release_url",
        "retain",
        "state_topic",
        "title",
        "value_template",
    },
    "binary_sensor": {"device_class", "value_template", "payload_on", "payload_off", "icon", "name"},
}
"""Platforms that are used here, and their keys beside `p` and `unique_id`, which an entity needs."""

UNITS: Final = {
    "data_size": {"B", "kB", "MB", "GB", "KiB", "MiB", "GiB"},
    "data_rate": {"bit/s", "kbit/s", "Mbit/s"},
    "temperature": {"°C", "°F", "K"},
    "power": {"W", "kW", "mW"},
    "enum": {None},
    None: {None, "%"},
}
"""Units that a sensor of a class may have."""

BINARY_CLASSES: Final = {None, "problem", "running", "connectivity"}
STATE_CLASSES: Final = {None, "measurement", "total", "total_increasing"}


def check(document: dict[str, object]) -> None:
    """Hold a document against the table above; raises `AssertionError`."""
    assert set(document) <= set(ROOT)
    for key, (required, kind) in ROOT.items():
        assert key in document or not required, key
        assert isinstance(document.get(key, kind()), kind), key
    device, origin, components = document["dev"], document["o"], document["cmps"]
    assert isinstance(device, dict)
    assert isinstance(origin, dict)
    assert isinstance(components, dict)
    assert set(device) <= DEVICE
    assert device.get("ids") or device.get("cns")
    assert set(origin) <= ORIGIN
    assert origin["name"]
    assert not {"availability", "availability_topic"} <= set(document)  # one of them
    unique = [each["unique_id"] for each in components.values() if len(each) > 1]
    assert len(set(unique)) == len(unique)
    for name, each in components.items():
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
        keys = PLATFORMS[each["p"]]
        if len(each) == 1:
            continue  # it is taken out
        assert set(each) - {"p", "unique_id"} <= keys
        if each["p"] == "sensor":
            assert each.get("state_class") in STATE_CLASSES
            assert each.get("unit_of_measurement") in UNITS[each.get("device_class")]
            assert ("options" in each) == (each.get("device_class") == "enum")
            assert not ("options" in each and "state_class" in each)
        elif each["p"] == "update":
            assert each.get("device_class") in (None, "firmware")
            assert ("command_topic" in each) == ("payload_install" in each)
        else:
            assert each.get("device_class") in BINARY_CLASSES


UPDATE: Final[dict[str, type | tuple[type, ...]]] = {
    "installed_version": str,
    "latest_version": str,
    "title": str,
    "release_summary": str,
    "release_url": str,
    "entity_picture": str,
    "in_progress": bool,
    "update_percentage": (int, float, type(None)),
}
"""What the state of an update entity may hold, as JSON."""


def check_update(found: object) -> None:
    """Hold the state of the update entity against the table."""
    assert isinstance(found, dict)
    assert {"installed_version", "latest_version"} <= set(found) <= set(UPDATE)
    for key, value in found.items():
        assert isinstance(value, UPDATE[key]), key


def full() -> NodeStatus:
    return msgspec.structs.replace(well(), gateway=GatewayView(devices=9, incidents=1))


def document(status: NodeStatus) -> dict[str, object]:
    found: dict[str, object] = json.loads(written(discovery(status, WHERE)))
    return found


@pytest.mark.parametrize("status", [well(), full(), ill(well())])
def test_the_device_keeps_to_the_schema(status: NodeStatus) -> None:
    check(document(status))


def test_topics_are_those_of_device_discovery() -> None:
    assert WHERE.config == "homeassistant/device/qedge-fleet-box-1/config"
    assert WHERE.status == "homeassistant/status"
    assert (WHERE.state, WHERE.availability) == ("qedge/fleet-box-1/state", "qedge/fleet-box-1/availability")
    other = places(HomeAssistantConfig(discovery_prefix="ha/x", state_prefix="y"), "f", "n")
    assert (other.config, other.state) == ("ha/x/device/qedge-f-n/config", "y/f-n/state")


def test_the_table_finds_documents_that_are_wrong() -> None:
    good = document(full())
    for change in ({"o": {}}, {"dev": {}}, {"extra": 1}, {"cmps": {"x": {"p": "teapot"}}}, {"cmps": {"x": {}}}):
        with pytest.raises((AssertionError, KeyError)):
            check(good | change)


def test_every_entity_finds_its_value_in_the_state_also_of_drivers_with_dashes() -> None:
    status = full()
    values = json.loads(written(state(status, HealthState.UP)))
    components = document(status)["cmps"]
    assert isinstance(components, dict)
    for name, each in components.items():
        path = re.fullmatch(r"\{\{ value_json\.(.+?)(?: \| tojson)? \}\}", each["value_template"])
        assert path is not None
        found: object = values
        for step in re.findall(r"[A-Za-z_]+|\['[^']+'\]", path[1].replace("['", ".['").replace("..", ".")):
            assert isinstance(found, dict), name
            found = found[step.strip("[]'")]
        if each["p"] == "update":
            check_update(found)
        elif each["p"] == "binary_sensor":
            assert found in ("ON", "OFF"), name
        elif "unit_of_measurement" in each and name not in ("temperature", "power"):
            assert isinstance(found, (int, float)), name


def test_drivers_are_entities_and_attached_devices_are_only_counted() -> None:
    found = document(full())["cmps"]
    assert isinstance(found, dict)
    assert {name for name in found if name.startswith("driver-")} == {f"driver-{each.name}" for each in well().drivers}
    assert "devices" in found
    assert "devices" not in (document(well())["cmps"] or {})
    one = well().drivers[0]
    many = tuple(msgspec.structs.replace(one, name=f"d{number}") for number in range(500))
    crowded = document(msgspec.structs.replace(well(), drivers=many))["cmps"]
    assert isinstance(crowded, dict)
    assert sum(name.startswith("driver-") for name in crowded) == MAX_DRIVERS


def test_the_state_tells_problems_and_drivers_that_are_down() -> None:
    status = ill(well())
    values = state(status, HealthState.DEGRADED)
    assert (values["problem"], values["health"]) == ("ON", "degraded")
    drivers = values["drivers"]
    assert isinstance(drivers, dict)
    assert drivers[status.drivers[0].name] == "OFF"


def test_a_component_that_is_gone_is_taken_out_by_its_platform_alone_and_then_left_out() -> None:
    old = written(discovery(well(), WHERE))
    first, *others = well().drivers
    new = discovery(msgspec.structs.replace(well(), drivers=tuple(others)), WHERE)
    between = without(new, old)
    assert between is not None
    check(json.loads(written(between)))
    components = between["cmps"]
    assert isinstance(components, dict)
    assert components[f"driver-{first.name}"] == {"p": "binary_sensor"}
    after = new["cmps"]
    assert isinstance(after, dict)
    assert f"driver-{first.name}" not in after
    assert without(new, written(between)) is None


@pytest.mark.parametrize("stands", [b"x", b"[]", b"{}", b'{"cmps": 3}', b"\xff"])
def test_what_stands_there_and_cannot_be_read_is_replaced(stands: bytes) -> None:
    assert without(discovery(well(), WHERE), stands) is None


def test_without_permission_the_update_entity_only_shows() -> None:
    shown, started = discovery(well(), WHERE)["cmps"], discovery(well(), WHERE, install=True)["cmps"]
    assert isinstance(shown, dict)
    assert isinstance(started, dict)
    assert "command_topic" not in (shown["update"] or {})
    update = started["update"]
    assert isinstance(update, dict)
    assert (update["command_topic"], update["payload_install"]) == ("qedge/fleet-box-1/update/install", "INSTALL")
    check(json.loads(written(discovery(well(), WHERE, install=True))))


def test_the_update_entity_tells_what_is_installed_offered_and_under_way() -> None:
    quiet = state(well(), HealthState.UP)["update"]
    check_update(quiet)
    assert quiet == {"installed_version": well().version, "latest_version": well().version, "in_progress": False}
    offered = SoftwareView("1.0.0", "1.1.0", in_progress=True)
    told = state(well(), HealthState.UP, offered, "https://example.org/{version}/notes")["update"]
    check_update(told)
    assert told == {
        "installed_version": "1.0.0",
        "latest_version": "1.1.0",
        "in_progress": True,
        "release_url": "https://example.org/1.1.0/notes",
    }
