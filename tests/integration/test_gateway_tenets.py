"""Tenets of zero trust (NIST SP 800-207, §2.1) that want the real parts: policy, sessions, broker, audit log.

The others, and these on stand-ins, are in `test_zero_trust_tenets`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import mqtt5
import pytest

from qedge.wire.audit import AuditTrail
from qedge_device import ConstrainedDevice
from qedge_device.rich import RichDevice
from tests.integration.gateway_site import Attached, GatewayNode, refusal, running, until
from tests.integration.test_gateway_intake import BrokerClient

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "devices"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayNode]:
    """Share one node; every test has devices of its own."""
    with running(tmp_path_factory.mktemp("gateway")) as node:
        yield node


class Wire:
    """A cable to the listener that keeps all that passes."""

    def __init__(self, port: int) -> None:
        self.seen = bytearray()
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._port))
            except OSError:  # the listener has gone
                near.close()
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):  # either side may close while the other still speaks
            while data := source.recv(65_536):
                self.seen += data
                sink.sendall(data)
        sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # to close alone does not wake who waits in another thread
        self._server.close()


@pytest.mark.parametrize("constrained", [False, True], ids=["rich", "constrained"])
def test_2_nobody_on_the_way_reads_repeats_or_alters_what_a_device_says(node: GatewayNode, constrained: bool) -> None:
    with Wire(node.port) as wire:
        name, secret = f"secret-{int(constrained)}", os.urandom(24)
        words = ("--constrained",) if constrained else ()
        line = node.cli("device", "add", name, "--class", "meter", "--segment", "hall", *words).strip()
        device = Attached.invited(line, wire.port, constrained=constrained)
        assert device.connect()
        device.open_session()
        before = node.segment("hall").readings
        frame = device.seal("temperature", secret)
        assert device.publish(device.topic("up"), frame)
        until(lambda: node.segment("hall").readings == before + 1)
        assert secret not in wire.seen
        assert frame in wire.seen
        assert device.publish(device.topic("up"), frame)  # once more, as it was
        for place in (0, len(frame) // 2, len(frame) - 1):
            altered = bytearray(frame)
            altered[place] ^= 1
            device.publish(device.topic("up"), bytes(altered))
        assert node.segment("hall").readings == before + 1

        def next_is_heard() -> bool:
            # so much that comes again has the node ask for a new session; where it asks as the device begins one, that
            # one is over at once, and the device begins another
            device.rejoin()
            assert device.say("temperature", b"next")
            for _ in range(60):
                if node.segment("hall").readings > before + 1:
                    break
                time.sleep(0.05)
            return node.segment("hall").readings == before + 2

        until(next_is_heard)
        device.close()


async def test_2_who_may_use_the_broker_may_still_do_nothing_in_a_devices_name(node: GatewayNode) -> None:
    device = await asyncio.to_thread(node.attach, "victim", "--class", "meter", "--segment", "hall", broker=True)
    frame = device.seal("temperature", b"1")
    async with BrokerClient.dial(node.broker_port, "somebody") as stranger:
        for number, payload in enumerate((b"forged", frame, frame, frame[:-1], frame[:-1] + b"x"), 1):
            stranger.publish(device.topic("up"), payload, qos=1, packet_id=number)
            assert isinstance(await stranger.packet(), mqtt5.PubAckPacket)
    assert await asyncio.to_thread(device.say, "temperature", b"2")
    view = await asyncio.to_thread(node.device, "victim")
    assert (view.state, view.trust) == ("enrolled", 50)
    assert await asyncio.to_thread(node.incidents, "victim") == []
    await asyncio.to_thread(device.close)


def test_3_every_connection_and_every_session_is_granted_by_itself(node: GatewayNode) -> None:
    device = node.attach("twice", "--class", "meter", "--segment", "hall")
    first = node.device("twice").session
    assert first is not None
    password = device.half.password("again")
    frame = device.seal("temperature", b"old")
    device.half.end_session()
    device.open_session()
    second = node.device("twice").session
    assert second is not None
    assert second.key_id != first.key_id
    device.say("temperature", b"new")
    assert device.connect()
    assert device.half.password("again") != password  # each is good once
    node.cli("device", "rotate", "twice")
    before = node.segment("hall").readings
    device.publish(device.topic("up"), frame)
    until(device.ended.is_set, "it may go on in a session that is over")
    assert node.segment("hall").readings == before
    device.close()


def test_5_the_posture_and_the_trust_of_a_device_count_at_every_message(node: GatewayNode) -> None:
    rule = 'resources = { segments = ["*"], channels = ["temperature", "level"] }\n'
    node.change_policy(rule, rule + 'when = { posture = ["signed-firmware"], trust = 40 }\n')
    try:
        sound = node.attach("signed", "--class", "meter", "--segment", "hall", "--posture", "signed-firmware")
        other = node.attach("unsigned", "--class", "meter", "--segment", "hall")
        before = node.segment("hall").readings
        sound.say("temperature", b"1")
        other.say("temperature", b"2")
        rows = until(lambda: node.audit("unsigned", AuditTrail.DENIALS))
        assert rows[-1].decision == "posture"
        until(lambda: node.segment("hall").readings == before + 1)
        for _ in range(40):  # what it is denied again and again costs it trust
            other.say("temperature", b"3")
        until(lambda: node.device("unsigned").trust < 50, "it is trusted as before")
        assert node.device("signed").trust >= 50
        sound.close()
        other.close()
    finally:
        node.policy.write_text(node.policy.read_text() + "# once more\n")
        node.change_policy('when = { posture = ["signed-firmware"], trust = 40 }\n', "")


def test_6_nothing_is_taken_before_identity_and_policy_were_asked(node: GatewayNode) -> None:
    real = node.attach("gate", "--class", "meter", "--segment", "hall", constrained=True)
    guess = ConstrainedDevice(*real.half.up_topic.split("/")[2:4], "gate", os.urandom(32), os.urandom)
    thief = Attached(guess, node.port)
    assert not thief.connect()  # the name is known, the root is not
    assert not real.ended.is_set()
    line = node.cli("device", "invite", "--approval", "--class", "meter", "--segment", "hall").strip()
    newcomer = Attached(RichDevice.from_invitation(line, name="newcomer", random_bytes=os.urandom), node.port)
    assert newcomer.connect()
    newcomer.publish(newcomer.half.hello_topic, newcomer.half.hello())
    listing = until(lambda: node.ask(lambda client: client.devices.listing("pending")).devices, "nobody waits")
    [pending] = listing
    assert refusal(lambda: node.command(pending.name, "open")) == "command.unreachable"
    newcomer.publish(newcomer.topic("up"), b"before it is let in")
    node.cli("device", "approve", pending.name)
    assert newcomer.connect()
    newcomer.open_session()
    before = node.segment("hall").readings
    assert newcomer.say("temperature", b"1")
    until(lambda: node.segment("hall").readings == before + 1)
    for each in (real, thief, newcomer):
        each.close()


@pytest.mark.parametrize("name", ["rich", "constrained"])
def test_the_examples_attach_themselves_and_what_they_say_arrives(node: GatewayNode, name: str, tmp_path: Path) -> None:
    words = ("--constrained",) if name == "constrained" else ()
    line = node.cli("device", "add", f"example-{name}", "--class", "meter", "--segment", "hall", *words)
    before = node.segment("hall").readings
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--state", str(tmp_path / "state.json")]
    command += ["--readings", "3", "--pause", "0.3"]
    command += ["--address", f"mqtt://127.0.0.1:{node.port}"] if name == "constrained" else []
    for said in (3, 6):  # the second time from what it kept
        done = subprocess.run(command, input=line, text=True, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        until(lambda said=said: node.segment("hall").readings == before + said)  # type: ignore[misc] # of this round
    assert (tmp_path / "state.json").stat().st_mode & 0o077 == 0
