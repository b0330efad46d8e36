"""The gateway as it runs: a real daemon, its policy file, its broker, and devices over paho."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.wire.audit import AuditTrail
from qedge.wire.segments import CommandView, SegmentReadings, segment_base
from qedge_device.commands import pack_key_request, unpack_command
from qedge_device.group import GroupReader, unpack_group_key
from tests.integration.gateway_site import Attached, GatewayNode, refusal, running, until

pytestmark = pytest.mark.integration

MOSQUITTO_PUB, MOSQUITTO_SUB = shutil.which("mosquitto_pub"), shutil.which("mosquitto_sub")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayNode]:
    """Share one node; every test has devices of its own."""
    with running(tmp_path_factory.mktemp("gateway")) as node:
        yield node


@pytest.mark.parametrize("broker", [False, True], ids=["direct", "broker"])
@pytest.mark.parametrize("constrained", [False, True], ids=["rich", "constrained"])
def test_a_device_enrols_by_its_line_and_its_readings_reach_its_segment(
    node: GatewayNode, constrained: bool, broker: bool
) -> None:
    before = node.segment("yard").readings
    name = f"meter-{'c' if constrained else 'r'}-{'b' if broker else 'd'}"
    device = node.attach(name, "--class", "meter", "--segment", "yard", constrained=constrained, broker=broker)
    for number in range(5):
        assert device.say("level", bytes([number]))
    until(lambda: node.segment("yard").readings == before + 5)
    view = node.device(name)
    assert (view.tier, view.state) == ("constrained" if constrained else "rich", "enrolled")
    assert view.session is not None
    device.close()


def test_a_panel_reads_with_the_segments_key_what_a_meter_says(node: GatewayNode) -> None:
    meter = node.attach("read-meter", "--class", "meter", "--segment", "hall", constrained=True)
    panel = node.attach("read-panel", "--class", "panel", "--segment", "hall")
    base = segment_base(*panel.half.up_topic.split("/")[2:4], "hall")
    assert panel.client is not None
    panel.client.subscribe(f"{base}/temperature", 1)
    reader = GroupReader(base)
    panel.say("_key", pack_key_request())
    until(lambda: panel.keys, "no key came")
    reader.take(unpack_group_key(panel.keys[-1]))

    def read() -> bool:
        meter.say("temperature", b"21.5")
        for key in panel.keys:
            reader.take(unpack_group_key(key))
        return bool(panel.others)

    until(read, "nothing was published")
    topic, frame = panel.others[0]
    assert b"21.5" not in frame
    readings = msgspec.msgpack.decode(reader.open(topic.rpartition("/")[2], frame), type=SegmentReadings).readings
    assert [(each.device, each.body) for each in readings][:1] == [("read-meter", b"21.5")]
    meter.close()
    panel.close()


def test_what_no_rule_permits_is_denied_and_the_audit_log_says_why(node: GatewayNode) -> None:
    before = node.segment("hall").readings
    device = node.attach("lamp", "--class", "lamp", "--segment", "hall", constrained=True)
    device.say("temperature", b"x")
    rows = until(lambda: node.audit("lamp", AuditTrail.DENIALS), "the denial was not written")
    assert (rows[0].action, rows[0].decision) == ("publish", "no_rule")
    assert node.segment("hall").readings == before
    device.close()


@pytest.mark.parametrize("constrained", [False, True], ids=["rich", "constrained"])
def test_a_command_reaches_its_device_and_its_answer_the_operator(node: GatewayNode, constrained: bool) -> None:
    name = f"door-{int(constrained)}"
    device = node.attach(name, "--class", "door", "--segment", "hall", constrained=constrained)
    said = node.cli("device", "command", name, "open", "wide")
    assert said.startswith(f"{name} open: done: moved")
    assert device.commands == [("open", b"wide")]
    assert refusal(lambda: node.command(name, "explode")) == "command.refused"
    device.close()


def test_a_quarantined_device_is_cut_off_at_once_comes_back_when_released_and_never_once_revoked(
    node: GatewayNode,
) -> None:
    device = node.attach("pump", "--class", "meter", "--segment", "hall")
    assert device.say("temperature", b"1")
    node.cli("device", "quarantine", "pump", "--reason", "smoke")
    until(device.ended.is_set, "it is still connected")
    assert not device.connect()
    [incident] = node.incidents("pump")
    assert (incident.state, incident.evidence) == ("contained", "operator")
    story = node.ask(lambda client: client.security.device_story("pump"))
    assert story.quarantined
    assert story.rows[-1].evidence == "quarantined"
    node.cli("device", "release", "pump")
    assert node.incidents("pump") == []
    assert device.connect()
    device.open_session()
    assert device.say("temperature", b"2")
    node.cli("device", "revoke", "pump", "--reason", "stolen")
    until(device.ended.is_set, "it is still connected")
    assert not device.connect()
    assert node.device("pump").state == "revoked"
    acts = [row.action for row in node.audit("pump")]
    for act in ("add", "quarantine", "release", "revoke"):
        assert act in acts, acts
    assert "nothing was changed" in node.cli("audit", "verify")
    device.close()


def test_another_policy_counts_from_the_next_message_on(node: GatewayNode) -> None:
    device = node.attach("weather", "--class", "meter", "--segment", "yard", constrained=True)
    device.say("level", b"1")
    until(lambda: node.segment("yard").readings, "it was not taken")
    node.change_policy('channels = ["temperature", "level"]', 'channels = ["temperature"]')
    try:
        before = node.segment("yard").readings
        device.say("level", b"2")
        rows = until(lambda: node.audit("weather", AuditTrail.DENIALS), "it was not denied")
        assert rows[-1].decision == "no_rule"
        assert node.segment("yard").readings == before
    finally:
        node.change_policy('channels = ["temperature"]', 'channels = ["temperature", "level"]')
    device.say("level", b"3")
    until(lambda: node.segment("yard").readings == before + 1, "it was not taken")
    assert not device.ended.is_set()
    device.close()


def test_a_killed_node_comes_back_with_all_devices_and_they_resume(node: GatewayNode) -> None:
    rich = node.attach("lasting-r", "--class", "meter", "--segment", "hall")
    constrained = node.attach("lasting-c", "--class", "meter", "--segment", "hall", constrained=True)
    node.attach("held", "--class", "meter", "--segment", "hall", constrained=True).close()
    node.cli("device", "quarantine", "held")
    known = node.ask(lambda client: client.devices.listing(limit=1000))
    node.daemon.kill()
    for device in (rich, constrained):
        until(device.ended.is_set, "it noticed nothing")
    node.start()
    assert node.ask(lambda client: client.devices.listing(limit=1000)).total == known.total
    assert node.device("held").state == "quarantined"
    for device in (rich, constrained):
        device.rejoin()
        assert device.say("temperature", b"back")
    until(lambda: node.segment("hall").readings == 2, "the readings were not taken")
    assert "nothing was changed" in node.cli("audit", "verify")
    for device in (rich, constrained):
        device.close()


def test_a_flooding_device_is_contained_by_the_node_itself_and_no_other_suffers(node: GatewayNode) -> None:
    sound = node.attach("sound", "--class", "meter", "--segment", "yard", constrained=True)
    wild = node.attach("wild", "--class", "meter", "--segment", "hall", constrained=True)
    before = node.segment("yard").readings
    said = 0

    def contained() -> bool:
        nonlocal said
        for _ in range(100):
            if not wild.ended.is_set() and wild.client is not None:
                wild.client.publish(wild.half.up_topic, wild.seal("temperature", b"!"), 0)
        assert sound.say("level", b"steady")
        said += 1
        return bool(node.incidents("wild"))

    until(contained, "nothing was done")
    [incident] = node.incidents("wild")
    assert (incident.evidence, incident.state) == ("flooding", "contained")
    assert {act.outcome for act in incident.acts} == {"done"}
    for _ in range(10):
        assert sound.say("level", b"steady")
    until(lambda: node.segment("yard").readings == before + said + 10, "readings of another were lost")
    assert node.incidents("sound") == []
    assert node.device("sound").trust >= 50
    wild.close()
    sound.close()


@pytest.mark.skipif(not (MOSQUITTO_PUB and MOSQUITTO_SUB), reason="mosquitto-clients is not installed")
def test_mosquittos_tools_carry_what_the_library_sealed(node: GatewayNode, tmp_path: Path) -> None:
    device = node.attach("tool", "--class", "meter", "--segment", "hall", constrained=True)
    device.close()
    before = node.segment("hall").readings
    frame = tmp_path / "frame"
    frame.write_bytes(device.seal("temperature", b"20"))
    subprocess.run([str(MOSQUITTO_PUB), *_mosquitto(device), "-t", device.topic("up"), "-f", str(frame)], check=True)
    until(lambda: node.segment("hall").readings == before + 1, "it was not taken")
    hearing = subprocess.Popen(
        [str(MOSQUITTO_SUB), *_mosquitto(device), "-t", device.topic("down"), "-C", "1", "-N"], stdout=subprocess.PIPE
    )
    sent: list[CommandView] = []

    def heard() -> bool:
        with contextlib.suppress(QedgeError):  # it is not connected yet, or no longer
            sent.append(node.command("tool", "open", b"wide", deadline_s=0.3))
        return hearing.poll() is not None

    until(heard, "the command did not come")
    out, _ = hearing.communicate()
    command, body = device.half.open(out)
    assert (command, unpack_command(body)[1]) == ("open", b"wide")
    assert sent[-1].outcome == "unknown"  # these tools answer nothing


def _mosquitto(device: Attached) -> list[str]:
    who = f"tool-{os.urandom(4).hex()}"
    login = ["-u", device.half.username, "-P", device.half.password(who)]
    return ["-h", "127.0.0.1", "-p", str(device.port), "-i", who, *login, "-q", "1", "-V", "311"]
