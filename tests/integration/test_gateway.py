"""The gateway as it runs: a real daemon, its policy file, its broker, and devices over paho."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from qedge.wire.audit import AuditTrail
from qedge.wire.segments import SegmentReadings, segment_base
from qedge_device.commands import pack_key_request
from qedge_device.group import GroupReader, unpack_group_key
from tests.integration.gateway_site import GatewayNode, refusal, running, until

pytestmark = pytest.mark.integration


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
