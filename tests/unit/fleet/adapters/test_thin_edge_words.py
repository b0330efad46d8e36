"""What thin-edge.io is told has the form that its documentation shows."""

from __future__ import annotations

import json
import re
from datetime import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.fleet.telemetry.collecting import readings
from qedge.fleet.telemetry.model import Item
from qedge.fleet.thin_edge.commands import Act, LocalCommand, Status, decide, parse
from qedge.fleet.thin_edge.config import ThinEdgeConfig
from qedge.fleet.thin_edge.mapping import UNITS, Message, Words
from qedge.wire.node import GatewayView
from qedge.wire.telemetry import Alarm, HealthState, NodeHealth, Severity, Telemetry, TelemetryEvent
from tests.unit.fleet.adapters.tool_site import well

WORDS = Words(ThinEdgeConfig())
UTC_NS = 1_674_739_912_345_000_000


def body(message: Message | None) -> dict[str, object]:
    assert message is not None
    found = json.loads(message.payload)
    assert isinstance(found, dict)
    return found


def told(what: Telemetry) -> Message | None:
    return WORDS.item(Item(UTC_NS, what))


def is_time(text: object) -> bool:
    return isinstance(text, str) and datetime.fromisoformat(text).timestamp() == UTC_NS / 1e9


def test_topics_have_the_four_levels_of_the_identifier_and_fit_aws() -> None:
    assert WORDS.base == "te/device/main/service/qedge"
    assert f"{WORDS.device}/cmd/health/check" == "te/device/main///cmd/health/check"
    assert f"{WORDS.base}/cmd/restart/1".count("/") == 7  # AWS IoT Core takes no more


def test_registration_is_retained_and_names_a_service_and_its_parent() -> None:
    message = WORDS.registration()
    assert (message.topic, message.retain) == ("te/device/main/service/qedge", True)
    assert body(message) == {"@type": "service", "@parent": "device/main//", "name": "qedge", "type": "systemd"}


def test_health_is_retained_with_pid_status_and_unix_seconds_and_the_will_says_down() -> None:
    message = WORDS.health(HealthState.DEGRADED, 1234, UTC_NS)
    assert (message.topic, message.retain) == ("te/device/main/service/qedge/status/health", True)
    assert body(message) == {"pid": 1234, "status": "up", "time": 1_674_739_912}
    assert body(WORDS.health(HealthState.DOWN, 1, UTC_NS))["status"] == "down"
    will = WORDS.last_will(1234)
    assert (will.topic, will.retain, body(will)) == (message.topic, True, {"pid": 1234, "status": "down"})


def test_measurements_are_numbers_at_most_one_level_deep_with_a_time_and_are_not_retained() -> None:
    status = msgspec.structs.replace(well(), gateway=GatewayView(devices=3))
    topics = set()
    for reading in readings(status):
        message = told(reading)
        assert message is not None
        assert not message.retain
        topics.add(message.topic.removeprefix(f"{WORDS.base}/m/"))
        values = body(message)
        assert is_time(values.pop("time"))
        assert values
        for value in values.values():
            inner = value.values() if isinstance(value, dict) else (value,)
            assert all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in inner)
    assert topics == {"host", "jobs", "entropy", "driver", "link", "gateway"}


def test_units_are_told_once_beside_the_measurements() -> None:
    for message in WORDS.metadata():
        assert re.fullmatch(r"te/device/main/service/qedge/m/[a-z]+/meta", message.topic)
        assert message.retain
        units = body(message)["units"]
        assert isinstance(units, dict)
        assert all(isinstance(unit, str) for unit in units.values())
    assert set(UNITS) == {message.topic.split("/")[-2] for message in WORDS.metadata()}


def test_an_event_has_text_and_time() -> None:
    message = told(TelemetryEvent("driver.state", "qpu", "qpu is down"))
    assert message is not None
    assert (message.topic, message.retain) == (f"{WORDS.base}/e/driver_state", False)
    said = body(message)
    assert said["text"] == "qpu is down"
    assert is_time(said["time"])


def test_an_alarm_is_retained_with_severity_and_cleared_by_an_empty_message() -> None:
    alarm = Alarm("driver-down", "qpu", Severity.MAJOR, True, "qpu is down", UTC_NS)
    message = told(alarm)
    assert message is not None
    assert (message.topic, message.retain) == (f"{WORDS.base}/a/driver-down_qpu", True)
    said = body(message)
    assert (said["text"], said["severity"]) == ("qpu is down", "major")
    assert is_time(said["time"])
    cleared = told(msgspec.structs.replace(alarm, active=False))
    assert cleared == Message(message.topic, b"", retain=True)
    assert {each.value for each in Severity} == {"critical", "major", "minor", "warning"}


def test_health_is_no_measurement() -> None:
    assert told(NodeHealth(HealthState.UP)) is None


def test_the_twin_and_the_settings_are_retained_documents() -> None:
    twin = WORDS.twin(well())
    assert {message.topic for message in twin} == {f"{WORDS.base}/twin/node", f"{WORDS.base}/twin/drivers"}
    assert all(message.retain and body(message) for message in twin)
    settings = WORDS.settings({"a": {"b": 1}})
    assert (settings.topic, settings.retain, body(settings)) == (f"{WORDS.base}/config", True, {"a": {"b": 1}})
    capability = WORDS.capability("config_snapshot", {"types": ["agent.toml"]})
    assert capability.topic == f"{WORDS.base}/cmd/config_snapshot"


# The life cycle

TOPIC = f"{WORDS.base}/cmd/restart/c8y-1"
ALLOWED = frozenset({"restart"})


def command(status: Status, **fields: str) -> LocalCommand:
    return LocalCommand(TOPIC, "restart", "c8y-1", status, dict(fields))


@pytest.mark.parametrize("payload", [b"{}", b'{"status":"init"}'])
def test_a_command_without_a_status_is_one_that_begins(payload: bytes) -> None:
    assert parse(TOPIC, payload) == command(Status.INIT)


@pytest.mark.parametrize("payload", [b"x", b"[]", b'{"status":3}', b'{"status":"scheduled"}', b"\xff", b'"init"'])
def test_what_is_no_command_or_in_a_state_of_others_is_left_alone(payload: bytes) -> None:
    assert parse(TOPIC, payload) is None


def test_fields_that_are_not_known_are_carried_through_all_states() -> None:
    came = parse(TOPIC, b'{"status":"init","logLevel":"high","c8y-mapper":{"on":[1,null]}}')
    assert came is not None
    for state in (came.to(Status.EXECUTING), came.to(Status.SUCCESSFUL, {"url": "x"}), came.to(Status.FAILED)):
        said = json.loads(state.payload)
        assert said["status"] == state.status
        assert (said["logLevel"], said["c8y-mapper"]) == ("high", {"on": [1, None]})
    assert json.loads(came.to(Status.FAILED, reason="why").payload)["reason"] == "why"


@pytest.mark.parametrize(
    ("came", "known", "retained", "act"),
    [
        (Status.INIT, None, False, Act.BEGIN),
        (Status.INIT, None, True, Act.BEGIN),
        (Status.EXECUTING, None, True, Act.FAIL),  # a state of ours that is not known here: lost
        (Status.SUCCESSFUL, None, True, Act.NOTHING),
        (Status.FAILED, None, True, Act.NOTHING),
        (Status.CLEARED, None, False, Act.NOTHING),
        (Status.INIT, Status.INIT, False, Act.NOTHING),
        (Status.INIT, Status.EXECUTING, False, Act.TELL),
        (Status.INIT, Status.SUCCESSFUL, False, Act.TELL),
        (Status.INIT, Status.FAILED, True, Act.TELL),
        (Status.EXECUTING, Status.SUCCESSFUL, True, Act.TELL),
        (Status.EXECUTING, Status.SUCCESSFUL, False, Act.NOTHING),  # the echo of our own word
        (Status.EXECUTING, Status.EXECUTING, False, Act.NOTHING),
        (Status.INIT, Status.CLEARED, False, Act.NOTHING),  # an id is used once
        (Status.CLEARED, Status.SUCCESSFUL, False, Act.CLEAR),
        (Status.CLEARED, Status.CLEARED, False, Act.CLEAR),
    ],
)
def test_what_follows_from_a_message(came: Status, known: Status | None, retained: bool, act: Act) -> None:
    earlier = command(known) if known is not None else None
    found = decide(command(came), earlier, retained=retained, allowed=ALLOWED)
    assert found.act is act
    if act is Act.TELL:
        assert found.command == earlier


def test_a_kind_that_is_not_permitted_fails_and_its_states_of_others_are_left_alone() -> None:
    found = decide(command(Status.INIT), None, retained=False, allowed=frozenset())
    assert found.act is Act.FAIL
    assert found.command is not None
    assert found.command.status is Status.FAILED
    assert "fleet.thin_edge.commands" in str(found.command.fields["reason"])
    assert decide(command(Status.EXECUTING), None, retained=True, allowed=frozenset()).act is Act.NOTHING


@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: json.dumps({"status": text}).encode()))
)
def test_nothing_that_comes_breaks_the_reader_of_commands(payload: bytes) -> None:
    came = parse(TOPIC, payload)
    if came is not None:
        decide(came, None, retained=True, allowed=ALLOWED)
        assert came.payload == b"" or json.loads(came.payload)["status"] == came.status
