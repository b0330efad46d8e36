"""What the guides to devices, policies and incidents tell to type works at a daemon with real devices."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qedge.cli.main import main
from qedge.wire.audit import AuditTrail
from tests.integration.gateway_site import POLICY, Attached, GatewayNode, broker_at, running, until
from tests.integration.test_guides import BLOCK, GUIDES

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayNode]:
    """Share one node; every test has devices of its own."""
    with running(tmp_path_factory.mktemp("gateway")) as node:
        yield node


def lines(guide: str, *languages: str) -> list[str]:
    """Return what a guide tells to type, a line each."""
    blocks = BLOCK.findall((GUIDES / guide).read_text())
    found = [line for language, _, text in blocks if language in languages for line in text.splitlines()]
    return [line for line in found if line.startswith("qedge ")]


def typed(node: GatewayNode, line: str) -> str:
    """Type a line of a guide and return what it printed."""
    return node.cli(*shlex.split(line)[1:])


def test_every_command_of_the_guide_to_devices_works(
    node: GatewayNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices.csv").write_text("name,tier,class\ntag-1,constrained,meter\ntag-2,rich,meter\n")
    add, imported, listed, shown, *contained = lines("attach-a-device.md", "sh")
    meter = Attached.invited(typed(node, add), node.port)
    assert meter.connect()
    meter.open_session()
    typed(node, imported)
    tag = Attached.invited(_line_of("tag-1", tmp_path / "lines.txt"), node.port, constrained=True)
    assert tag.connect()
    tag.open_session()
    table = typed(node, listed)
    assert re.search(r"^meter-1 +rich +enrolled +meter +hall", table, re.MULTILINE)
    assert "meter-1" in typed(node, shown)
    quarantine, release, rotate, revoke = contained
    assert "quarantined" in typed(node, quarantine)
    until(meter.ended.is_set)
    typed(node, release)
    meter.rejoin()
    typed(node, rotate)
    meter.open_session()
    assert "revoked" in typed(node, revoke)
    until(meter.ended.is_set)
    for each in (meter, tag):
        each.close()


def test_the_program_in_the_guide_to_devices_runs(tmp_path: Path) -> None:
    [program] = [
        text for language, _, text in BLOCK.findall((GUIDES / "attach-a-device.md").read_text()) if language == "python"
    ]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tag-1 ")


def test_the_policy_of_the_guide_is_put_in_force_recorded_and_replayed(
    node: GatewayNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {name: text for _, name, text in BLOCK.findall((GUIDES / "write-a-policy.md").read_text()) if name}
    reload, show = [
        line for line in lines("write-a-policy.md", "text") if re.match(r"qedge policy (reload|show)", line)
    ]
    meter = node.attach("m1", "--class", "meter", "--segment", "heating", constrained=True)
    try:
        node.policy.write_text(texts["policy.toml"])
        typed(node, reload)
        assert re.search(r"\b5 rules", typed(node, show))
        with talking(meter, "pressure", b"2.1"):
            (tmp_path / "requests.jsonl").write_text(node.cli("policy", "record", "--count", "5"))
        (tmp_path / "policy.toml").write_text(texts["policy.toml"].replace("trust = 40", "trust = 90"))
        [simulate] = [line for line in lines("write-a-policy.md", "sh") if "simulate" in line]
        said = typed(node, simulate)
        assert "5 requests, 5 decided otherwise: 5 newly denied, 0 newly allowed" in said
    finally:
        node.policy.write_text(POLICY)
        typed(node, reload)
    meter.close()


def test_the_guide_to_segments_works_with_its_segments_its_policy_and_its_program(tmp_path: Path) -> None:
    texts = {name: text for _, name, text in BLOCK.findall((GUIDES / "use-segments.md").read_text()) if name}
    (tmp_path / "follow.py").write_text(texts["follow.py"])
    shown = [line[2:] for line in (GUIDES / "use-segments.md").read_text().splitlines() if line.startswith("$ qedge ")]
    assert main(["segment", "upstream-key", "--out", str(tmp_path / "upstream")]) == 0
    config = texts["segments.toml"].replace("/etc/qedge", str(tmp_path / "upstream")) + texts["apps.toml"]
    with broker_at(tmp_path) as port:
        node = GatewayNode(tmp_path / "box-1", port, config=config)
        node.policy.write_text(texts["policy.toml"])
        try:
            node.start()
            sensor = node.attach("sensor-1", "--segment", "plant", constrained=True)
            valve = node.attach("valve-1", "--segment", "plant", constrained=True)
            printed = {}
            for line in shown:
                words = shlex.split(line)[1:]
                if "watch" in words:
                    words += ["--count", "1"]
                elif "upstream-key" in words:
                    continue  # as above
                with talking(sensor, "level", b"3.5"):
                    printed[" ".join(words)] = node.cli(*words)
            assert re.search("sensor-1  level  3.5$", printed["segment watch plant --count 1"])
            assert "valve-1 set: done" in printed["segment command valve-1 set open --key shift-7-open"]
            assert valve.commands == [("set", b"open")]
            environ = {**os.environ, "QEDGE_SOCKET": str(node.daemon.socket)}
            program = [sys.executable, str(tmp_path / "follow.py")]
            with (
                talking(sensor, "level", b"3.5"),
                subprocess.Popen(program, env=environ, stdout=subprocess.PIPE, text=True) as following,
            ):
                assert following.stdout is not None
                assert following.stdout.readline() == "sensor-1 level 3.5\n"
                following.terminate()
            # upstream go the channels that its rule names, and no other
            until(lambda: node.metric("qedge_onward_sent_total") > 0)
            assert sensor.say("alarm", b"1")
            until(lambda: node.metric('qedge_onward_denied_total{reason="no_rule"}') == 1)
            [row] = until(lambda: node.audit("upstream", AuditTrail.DENIALS))
            assert (row.action, row.decision) == ("subscribe", "no_rule")
            for each in (sensor, valve):
                each.close()
        finally:
            node.daemon.stop()


@contextlib.contextmanager
def talking(device: Attached, channel: str, body: bytes) -> Iterator[None]:
    """Let a device speak again and again."""
    stop = threading.Event()

    def talk() -> None:
        while not stop.is_set():
            device.say(channel, body)
            time.sleep(0.05)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_every_command_of_the_guide_to_incidents_works_on_a_real_one(node: GatewayNode) -> None:
    pump = node.attach("pump-7", "--class", "meter", "--segment", "hall", constrained=True)
    frames = [pump.seal("temperature", os.urandom(4)) for _ in range(50)]

    def noticed() -> bool:
        if not pump.ended.is_set():
            for frame in frames:  # again and again, and on the topic of another
                assert pump.client is not None
                pump.client.publish(pump.topic("up", "boiler"), frame, 0)
        return any(act.response == "quarantine" for view in node.incidents("pump-7") for act in view.acts)

    until(noticed, "nothing was done")
    until(pump.ended.is_set, "it is still connected")
    [incident] = node.incidents("pump-7")
    commands = [line.replace("000001", incident.id[-6:]) for line in lines("respond-to-an-incident.md", "sh")]
    listed, shown, acknowledged, resolved, rows, _denials, verified = [typed(node, line) for line in commands]
    assert re.search(r"pump-7 +\w+ +contained", listed)
    assert "quarantine: done" in shown
    assert "note: on my way to pump 7" in acknowledged
    assert "note: firmware replaced" in resolved
    assert "quarantine" in rows
    assert "nothing was changed" in verified
    assert not node.device("pump-7").quarantined
    pump.rejoin()
    pump.close()


def _line_of(name: str, file: Path) -> str:
    return next(line.split(" ", 1)[1] for line in file.read_text().splitlines() if line.startswith(name + " "))
