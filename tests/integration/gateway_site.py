"""A real daemon with its gateway on, and real devices over paho: nothing between them stands in for anything."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import paho.mqtt.client as paho

from benchmarks.broker import Broker
from qedge.base.errors import QedgeError
from qedge.cli.main import main
from qedge.client.node import NodeClient
from qedge.wire.audit import AuditRow, AuditTrail
from qedge.wire.gateway import AttachedDevice
from qedge.wire.incidents import IncidentView
from qedge.wire.segments import CommandView, DeviceCommand, SegmentView
from qedge_device import ConstrainedDevice, DeviceError, FrameError
from qedge_device.commands import KEY, CommandStatus, pack_done, unpack_command
from qedge_device.rich import RichDevice
from tests.integration.bus_site import MOSQUITTO
from tests.integration.daemon_process import DaemonProcess
from tests.integration.fleet_site import ThrowAwayFleet

T = TypeVar("T")
LIMIT_S = 30.0
POLICY = """version = 1
[segments.hall]
channels = ["temperature", "door"]
[segments.yard]
channels = ["level"]
[rules.devices-connect]
effect = "permit"
subjects = { kinds = ["device"] }
actions = ["connect"]
resources = { node = true }
[rules.meters-report]
effect = "permit"
subjects = { kinds = ["device"], classes = ["meter"] }
actions = ["publish"]
resources = { segments = ["*"], channels = ["temperature", "level"] }
[rules.panels-read]
effect = "permit"
subjects = { kinds = ["device"], classes = ["panel"] }
actions = ["subscribe"]
resources = { segments = ["hall"], channels = ["*"] }
[rules.operators-command]
effect = "permit"
subjects = { kinds = ["app"] }
actions = ["command"]
resources = { segments = ["hall"], commands = ["open"] }
crossing = true
"""
CONFIG = """[node]
name = "{name}"
[drivers.qrng]
driver = "sim_qrng"
[broker]
url = "mqtt://127.0.0.1:{broker_port}"
[devices]
enabled = true
[devices.listener]
listen = ["127.0.0.1:{port}"]
[devices.segments.hall]
channels = ["temperature", "door"]
apps = ["dashboard"]
[devices.segments.yard]
channels = ["level"]
[security.policy]
file = "{policy}"
[security.detection]
messages = 200
[security.incidents]
blast_least = 100
"""


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], T], sentence: str = "", limit_s: float = LIMIT_S) -> T:
    """Wait until a condition holds and return what it gave."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, sentence or "never so"
        time.sleep(0.05)
    return found


class GatewayNode:
    """A daemon with a gateway, its policy file, and the command line that speaks to it."""

    def __init__(self, home: Path, broker_port: int, name: str = "box-1", config: str = "") -> None:
        """`config` is added to the configuration."""
        self.name = name
        self.port, self.broker_port = free_port(), broker_port
        home.mkdir(parents=True, exist_ok=True)
        self.policy = home / "policy.toml"
        self.policy.write_text(POLICY)
        text = CONFIG.format(name=name, port=self.port, broker_port=broker_port, policy=self.policy)
        self.daemon = DaemonProcess(home, text + config)

    def start(self) -> None:
        """Start and wait until it is ready."""
        self.daemon.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until devices can come by both ways."""
        asyncio.run(
            self.daemon.wait_status(
                lambda status: (
                    status.ready
                    and status.bus.connected
                    and status.gateway is not None
                    and bool(status.gateway.addresses)
                    and status.gateway.through_broker
                ),
                60,
            )
        )

    def ask(self, question: Callable[[NodeClient], Awaitable[T]]) -> T:
        """Put a question to the daemon."""

        async def put() -> T:
            async with self.daemon.client() as node:
                return await question(node)

        return asyncio.run(put())

    def cli(self, *words: str, code: int = 0) -> str:
        """Run a command of `qedge` and return what it printed."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            found = main(["--socket", str(self.daemon.socket), *words])
        assert found == code, (words, found, out.getvalue())
        return out.getvalue()

    def device(self, name: str) -> AttachedDevice:
        """Return what the node says of a device."""
        return self.ask(lambda node: node.devices.show(name))

    def segment(self, name: str) -> SegmentView:
        """Return what the node says of a segment."""
        return next(each for each in self.ask(lambda node: node.segments.segments()).segments if each.name == name)

    def command(self, device: str, command: str, argument: bytes = b"", deadline_s: float = 10.0) -> CommandView:
        """Command a device and wait for its answer."""
        order = DeviceCommand(command, argument, deadline_s=deadline_s)
        return self.ask(lambda node: node.segments.command(device, order))

    def incidents(self, device: str) -> list[IncidentView]:
        """Return the incidents that are open about a device."""
        found = self.ask(lambda node: node.security.incidents(1000)).incidents
        return [each for each in found if each.subject == device]

    def audit(self, subject: str, trail: AuditTrail = AuditTrail.ACTS) -> list[AuditRow]:
        """Return the rows about a device."""
        rows = self.ask(lambda node: node.security.audit_rows(trail, 1000)).rows
        return [each for each in rows if each.subject == subject]

    def metric(self, name: str) -> float:
        """Return one value of the daemon's metrics by its name with labels."""
        lines = self.ask(lambda node: node.metrics()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def change_policy(self, old: str, new: str) -> None:
        """Change the policy file and have the daemon read it."""
        text = self.policy.read_text()
        assert old in text
        self.policy.write_text(text.replace(old, new))
        digest = hashlib.sha256(self.policy.read_bytes()).hexdigest()
        self.daemon.signal(signal.SIGHUP)
        until(lambda: self.ask(lambda node: node.policy.show()).sha256 == digest, "the policy was not read")

    def attach(self, name: str, *words: str, constrained: bool = False, broker: bool = False) -> Attached:
        """Add a device by the command line, have it enrol, and open its session."""
        line = self.cli("device", "add", name, *(("--constrained",) if constrained else ()), *words).strip()
        device = Attached.invited(line, self.broker_port if broker else self.port, constrained=constrained)
        assert device.connect(), f"{name} was not let in: {device.code}"
        device.open_session()
        return device


@contextlib.contextmanager
def broker_at(home: Path) -> Iterator[int]:
    """Run a broker that everybody on this box may use, as most are; yields its port."""
    with Broker("iotcore" if MOSQUITTO is None else "mosquitto", home / "broker") as broker:
        yield broker.port


@contextlib.contextmanager
def running(home: Path) -> Iterator[GatewayNode]:
    """Run a node and a broker."""
    with broker_at(home) as port:
        node = GatewayNode(home / "box-1", port)
        try:
            node.start()
            yield node
        finally:
            node.daemon.stop()


class Attached:
    """A device of `qedge_device` behind a client of paho. It answers commands as `does` says."""

    def __init__(self, half: ConstrainedDevice | RichDevice, port: int) -> None:
        self.half = half
        self.port = port
        self.code: int | None = None
        self.commands: list[tuple[str, bytes]] = []
        self.others: list[tuple[str, bytes]] = []
        self.keys: list[bytes] = []
        self.ended = threading.Event()
        self.client: paho.Client | None = None
        self._welcomes: queue.Queue[bytes] = queue.Queue()

    @classmethod
    def invited(cls, line: str, port: int, *, constrained: bool = False) -> Attached:
        """Make a device of the line that invites it."""
        kind = ConstrainedDevice if constrained else RichDevice
        return cls(kind.from_invitation(line.strip(), random_bytes=os.urandom), port)

    def topic(self, leaf: str, device: str = "") -> str:
        """Return a topic of this device, or that of another."""
        parts = self.half.up_topic.split("/")
        return "/".join([*parts[:5], device or parts[5], leaf])

    def needs_session(self) -> bool:
        half = self.half
        return half.needs_session if isinstance(half, ConstrainedDevice) else half.needs_session(time.monotonic())

    def seal(self, channel: str, body: bytes) -> bytes:
        half = self.half
        if isinstance(half, ConstrainedDevice):
            return half.seal(channel, body)
        return half.seal(channel, body, time.monotonic())

    def connect(self) -> bool:
        """Connect anew and say whether the node let it in."""
        self.close()
        self.ended, self.code = threading.Event(), None
        name = f"client-{os.urandom(4).hex()}"
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv311)  # type: ignore[arg-type] # it is one of its constants
        client.username_pw_set(self.half.username, self.half.password(name))
        subscribed = threading.Event()
        client.on_connect = lambda _c, _u, _f, code, _p: setattr(self, "code", int(code.value))
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = lambda _c, _u, message: self._hear(message.topic, message.payload)
        ended = self.ended
        client.on_disconnect = lambda *_: ended.set()
        client.reconnect_delay_set(120, 120)
        try:
            client.connect("127.0.0.1", self.port)
        except OSError:
            return False
        client.loop_start()
        self.client = client
        until(lambda: self.code is not None or ended.is_set(), "the node does not answer")
        if self.code != 0:
            return False
        client.subscribe([(self.half.welcome_topic, 1), (self.half.down_topic, 1)])
        return subscribed.wait(LIMIT_S)

    def open_session(self) -> None:
        """Say hello until there is a session; enrols first where that is due."""
        deadline = time.monotonic() + LIMIT_S
        while self.needs_session():
            assert time.monotonic() < deadline, "no session"
            who, message = self.half.username, self.half.hello()
            while message is not None:
                self.publish(self.half.hello_topic, message)
                message = self._answer()
            if self.half.username != who:
                assert self.connect(), "not let in under its own name"

    def rejoin(self) -> None:
        """Come back to a node that has forgotten all sessions."""
        until(self.connect, "it is not let in again")
        self.half.end_session()
        self.open_session()

    def _answer(self) -> bytes | None:
        with contextlib.suppress(queue.Empty):
            while True:
                try:
                    return self._receive(self._welcomes.get(timeout=5))
                except DeviceError as error:
                    if error.reason in ("refused", "pending"):
                        time.sleep(0.2)
                        return None
                    # it answers an earlier hello
        if isinstance(self.half, RichDevice):
            self.half.forget_session()
        return None

    def _receive(self, welcome: bytes) -> bytes | None:
        if isinstance(self.half, RichDevice):
            return self.half.receive(welcome, time.monotonic())
        self.half.receive(welcome)
        return None

    def publish(self, topic: str, payload: bytes, qos: int = 1) -> bool:
        """Publish and say whether it was acknowledged."""
        assert self.client is not None
        sent = self.client.publish(topic, payload, qos)
        if sent.rc == paho.MQTT_ERR_NO_CONN:
            return False
        until(lambda: sent.is_published() or self.ended.is_set(), "not acknowledged")
        return sent.is_published()

    def say(self, channel: str, body: bytes) -> bool:
        """Send one reading."""
        return self.publish(self.half.up_topic, self.seal(channel, body))

    def does(self, command: str, argument: bytes) -> CommandStatus:
        """Carry out a command."""
        self.commands.append((command, argument))
        return CommandStatus.DONE

    def _hear(self, topic: str, payload: bytes) -> None:
        if topic == self.half.welcome_topic:
            self._welcomes.put(payload)
        elif topic == self.half.down_topic:
            with contextlib.suppress(DeviceError, FrameError):
                command, body = self.half.open(payload)
                if command == KEY:
                    self.keys.append(body)
                    return
                request, argument = unpack_command(body)
                status = self.does(command, argument)
                assert self.client is not None
                self.client.publish(self.half.up_topic, self.seal("_done", pack_done(request, status, "moved")), 1)
        else:
            self.others.append((topic, payload))

    def close(self) -> None:
        """Disconnect."""
        if self.client is not None:
            self.client.disconnect()
            self.client.loop_stop()
            self.client = None


@contextlib.contextmanager
def two_running(home: Path, config: str = "") -> Iterator[tuple[GatewayNode, GatewayNode]]:
    """Run two nodes of one fleet at one broker."""
    fleet = ThrowAwayFleet(utc_ns=0)
    with broker_at(home) as port:
        nodes = GatewayNode(home / "box-1", port, "box-1", config), GatewayNode(home / "box-2", port, "box-2", config)
        try:
            for each in nodes:
                fleet.enrol(each.daemon.home, each.name)
                each.daemon.start()
            for each in nodes:
                each.wait_ready()
            yield nodes
        finally:
            for each in nodes:
                if each.daemon.process is not None:
                    each.daemon.stop()


def refusal(act: Callable[[], object]) -> str:
    """Return the code of the error that an act ends with."""
    try:
        act()
    except QedgeError as error:
        return error.code
    raise AssertionError("it was not refused")
