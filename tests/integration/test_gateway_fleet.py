"""Two daemons of one fleet, each with devices: what one decides about a device counts at the other."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import Exit
from qedge.cli.main import main
from qedge.wire.audit import AuditTrail
from qedge.wire.segments import AppReading
from qedge_device.rich import RichDevice
from tests.integration.gateway_site import LIMIT_S, Attached, GatewayNode, two_running, until

pytestmark = pytest.mark.integration

NOBODY = 65_534
Pair = tuple[GatewayNode, GatewayNode]
APPS = f"[http.apps]\ndashboard = [{NOBODY}]\n"
RULES = """[rules.dashboard-reads]
effect = "permit"
subjects = {{ kinds = ["app"], ids = ["dashboard"] }}
actions = ["subscribe"]
resources = {{ segments = ["hall"], channels = ["temperature"] }}
crossing = true
[rules.peers-read]
effect = "permit"
subjects = {{ kinds = ["peer"], ids = ["{peer}"] }}
actions = ["subscribe"]
resources = {{ segments = ["hall"], channels = ["temperature"] }}
crossing = true
"""
METER = ("--class", "meter", "--segment", "hall")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Share two nodes; every test has devices of its own."""
    with two_running(tmp_path_factory.mktemp("pair"), APPS) as nodes:
        yield nodes


def with_key(node: GatewayNode, name: str, seed: bytes) -> Attached:
    """Add a device whose key is one that it has from elsewhere; it is connected and not yet enrolled."""
    device = Attached.invited(node.cli("device", "add", name, *METER), node.port)
    assert isinstance(device.half, RichDevice)
    device.half.kept.seed = seed
    device.half = RichDevice(device.half.kept, os.urandom)
    assert device.connect()
    return device


def test_a_device_that_one_node_revokes_is_refused_at_the_other_within_seconds_and_after_restarts(pair: Pair) -> None:
    here, there = pair
    seed = os.urandom(32)
    device, elsewhere, other = (
        with_key(here, "m1", seed),
        with_key(there, "m1-there", seed),
        with_key(there, "m1", b"o" * 32),
    )
    for each in (device, elsewhere, other):
        each.open_session()
        assert each.say("temperature", b"1")
    here.cli("device", "revoke", "m1", "--reason", "stolen")
    until(elsewhere.ended.is_set, "the other node lets it go on")
    assert there.device("m1-there").revoked_at == "box-1"
    assert "box-1: its key counts at no node" in there.cli("device", "show", "m1-there")
    assert not elsewhere.connect()
    [row] = [each for each in there.audit("m1-there") if each.action == "bar"]
    assert row.rule == "revoked"
    assert other.say("temperature", b"2")  # of the same name, and another key
    there.daemon.kill()
    here.daemon.stop()
    there.start()
    try:
        assert not elsewhere.connect()
        thief = with_key(there, "thief", seed)
        assert thief.half.hello() is not None
        thief.publish(thief.half.hello_topic, thief.half.hello())
        until(lambda: there.metric('qedge_device_enrolments_total{outcome="auth.revoked"}') >= 1)
        thief.close()
    finally:
        here.start()
    until(other.connect)
    for each in (device, elsewhere, other):
        each.close()


@pytest.fixture
def reading(pair: Pair) -> Iterator[Pair]:
    """Let the app `dashboard` read at both nodes, and each node at the other."""
    before = [each.policy.read_text() for each in pair]
    for each, other in zip(pair, reversed(pair), strict=True):
        put(each, each.policy.read_text() + RULES.format(peer=other.name))
    yield pair
    for each, text in zip(pair, before, strict=True):
        put(each, text)


def put(node: GatewayNode, text: str) -> None:
    node.policy.write_text(text)
    node.cli("policy", "reload")


@contextlib.contextmanager
def watching(node: GatewayNode, *words: str) -> Iterator[queue.Queue[str]]:
    """Run `qedge segment watch` in a process of its own; gives its lines, the last with what it ended with."""
    command = [sys.executable, "-m", "qedge", "--socket", str(node.daemon.socket), "segment", "watch", "hall", *words]
    heard: queue.Queue[str] = queue.Queue()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = process.stdout
        thread = threading.Thread(target=lambda: [heard.put(line) for line in lines], daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            process.terminate()
            thread.join(LIMIT_S)


def until_heard(device: Attached, channel: str, heard: queue.Queue[str]) -> str:
    """Let a device speak until somebody hears it."""
    for _ in range(100):
        assert device.say(channel, b"21.5")
        with contextlib.suppress(queue.Empty):
            return heard.get(timeout=0.2)
    raise AssertionError("nobody hears it")


def test_a_program_follows_a_segment_as_an_app_until_policy_ends_it(reading: Pair) -> None:
    here, _ = reading
    device = here.attach("m2", *METER, constrained=True)
    with watching(here, "--app", "dashboard", "--json") as heard:
        found = msgspec.json.decode(until_heard(device, "temperature", heard), type=AppReading)
        assert (found.device, found.segment, found.channel, found.body) == ("m2", "hall", "temperature", b"21.5")
        put(here, here.policy.read_text().replace('ids = ["dashboard"]', 'ids = ["another"]'))
        until(lambda: "no_rule" in heard.get(timeout=LIMIT_S), "its right was not taken from it")
    refused = [each for each in here.audit("dashboard", AuditTrail.DENIALS) if each.action == "subscribe"]
    assert refused
    device.close()


def test_an_app_follows_a_segment_of_another_node_where_both_policies_permit(reading: Pair) -> None:
    here, there = reading
    device = there.attach("m3", *METER, constrained=True)
    words = ("--app", "dashboard", "--node", "box-2", "--channel", "temperature")
    with watching(here, *words) as heard:
        assert re.search(r"m3  temperature  21.5$", until_heard(device, "temperature", heard))
        put(there, there.policy.read_text().replace('ids = ["box-1"]', 'ids = ["box-7"]'))
        until(lambda: "segment.refused" in heard.get(timeout=LIMIT_S), "it goes on")
    here.cli("segment", "watch", "hall", *words, "--count", "1", code=Exit.NO_PERMISSION)
    device.close()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_a_program_of_another_user_is_the_app_that_it_was_given_and_no_other(reading: Pair) -> None:
    here, _ = reading
    for folder in (here.daemon.socket.parent, *here.daemon.socket.parents):
        if "pytest" in str(folder):
            folder.chmod(0o755)
    device = here.attach("m4", *METER, constrained=True)
    for path, found in (
        ("/v1/apps/dashboard/segments/hall/readings", "app-reading/1"),
        ("/v1/apps/other/segments/hall/readings", "access.denied"),
        ("/v1/apps/operator/segments/hall/readings", "access.denied"),
        ("/v1/segments", "access.denied"),
        ("/v1/status", "access.denied"),
    ):
        command = [sys.executable, "-I", "-c", _AS_NOBODY, str(here.daemon.socket), path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asked:
            while asked.poll() is None:
                assert device.say("temperature", b"1")
                time.sleep(0.05)
            assert asked.stdout is not None
            assert found in asked.stdout.read()
    device.close()


_AS_NOBODY = f"""
import os, socket, sys
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(f"GET {{sys.argv[2]}} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n".encode())
data = b""
while chunk := s.recv(4096):
    data += chunk
    if b"app-reading/1" in data or b"access.denied" in data:
        break
print(data.decode())
"""


def test_a_device_of_one_node_is_nobody_at_the_other(pair: Pair, tmp_path: Path) -> None:
    here, there = pair
    device = here.attach("wanderer", *METER)
    assert device.say("temperature", b"1")
    device.port = there.port
    assert not device.connect()
    assert device.code == 135  # not authorized
    assert there.metric('qedge_device_connects_total{outcome="unproven"}') >= 1
    # what its own node says of it, another can check once that node's list of revoked keys has come
    (tmp_path / "wanderer.json").write_text(here.cli("device", "show", "wanderer", "--credentials"))
    until(lambda: _code(there, "device", "check", str(tmp_path / "wanderer.json")) == Exit.OK)
    assert there.cli("device", "check", str(tmp_path / "wanderer.json")).startswith(
        "wanderer of box-1: good, ml-dsa-44"
    )
    device.port = here.port
    device.rejoin()
    assert device.say("temperature", b"2")
    here.cli("device", "revoke", "wanderer")
    until(lambda: _code(there, "device", "check", str(tmp_path / "wanderer.json")) == Exit.NO_PERMISSION)
    device.close()


def _code(node: GatewayNode, *words: str) -> int:
    return main(["--socket", str(node.daemon.socket), *words])


def test_a_quarantine_at_one_node_holds_at_the_other_until_it_is_lifted(pair: Pair) -> None:
    here, there = pair
    devices = [each.attach("shared", *METER, constrained=True) for each in pair]
    assert all(device.say("temperature", b"1") for device in devices)
    here.cli("device", "quarantine", "shared", "--reason", "stolen tools")
    until(devices[1].ended.is_set, "the other node lets it go on")
    assert there.device("shared").quarantined
    [incident] = there.incidents("shared")
    assert (incident.node, incident.state) == ("box-1", "contained")  # it is that of the other node
    assert not devices[1].connect()
    here.cli("device", "release", "shared")
    until(lambda: not there.device("shared").quarantined, "the other node goes on holding it")
    devices[1].rejoin()
    assert devices[1].say("temperature", b"2")
    for device in devices:
        device.close()
