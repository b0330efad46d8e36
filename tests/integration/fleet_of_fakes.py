"""A broker and nodes that are nothing but their words on it: births, reports, kinds. They do what a script says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.config import BusConfig
from qedge.bus.endpoint import external_endpoint
from qedge.bus.model import Incoming
from qedge.bus.service import Bus
from qedge.crypto.keys import SigningKey
from qedge.crypto.operator_files import OperatorIdentity, write_operator
from qedge.crypto.operators import verify_approval, verify_request
from qedge.crypto.sealed_file import Cost
from qedge.crypto.signed import sign_envelope
from qedge.wire.commands import (
    CommandOrder,
    CommandReport,
    CommandRequest,
    KindView,
    NodeCommands,
    OperatorRole,
    every_command,
    parse_command_topic,
    state_topic,
)
from qedge.wire.envelope import Header, decode, purpose_of
from qedge.wire.mesh import Birth, Capability
from qedge.wire.topics import Channel, topic
from tests.integration.bus_site import MOSQUITTO
from tests.integration.fleet_site import ThrowAwayFleet

PASSPHRASE = "correct horse battery staple"
QPU = Capability("sim", "qpu", "sim_qpu", "1", simulated=True)
Script = Callable[["FakeNode", CommandRequest], Sequence[tuple[str, str]]]
"""Says which states with which reasons a node tells of a request."""


def succeed(_node: FakeNode, _request: CommandRequest) -> Sequence[tuple[str, str]]:
    """Begin it and do it."""
    return [("init", ""), ("executing", ""), ("successful", "")]


@contextmanager
def open_broker(folder: Path) -> Iterator[int]:
    """Run a mosquitto that lets everybody in; gives its port."""
    assert MOSQUITTO is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "set_tcp_nodelay true", "max_queued_messages 100000"]
    lines += ["user root"] if os.geteuid() == 0 else []
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    command = [MOSQUITTO, "-c", str(folder / "mosquitto.conf")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < deadline, "the broker did not listen"
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


class FakeNode:
    """One node: what it says of itself, and what it does."""

    def __init__(
        self, name: str, key: SigningKey, chain: tuple[bytes, ...], version: str, labels: Sequence[str]
    ) -> None:
        self.name = name
        self.key = key
        self.chain = chain
        self.version = version
        self.labels = tuple(labels)
        self.epoch = 1
        self.script: Script = succeed
        self.requests: list[CommandRequest] = []
        self.approvers: list[str] = []
        self.revision: dict[str, int] = {}


class FakeFleet:
    """Nodes of a throw-away fleet on one connection; `async with` connects and introduces them."""

    def __init__(self, fleet: ThrowAwayFleet, port: int) -> None:
        self.fleet = fleet
        self.port = port
        self.nodes: dict[str, FakeNode] = {}
        self.url = f"mqtt://127.0.0.1:{port}"
        self.kinds = ("cancel", "drain", "update", "update-rollback")
        config = BusConfig(url=self.url, session_expiry_s=0)
        self.bus = Bus(
            config,
            lambda: external_endpoint(config),
            client_id=f"fakes-{os.urandom(4).hex()}",
            reply_topic=topic(fleet.name, "fakes", Channel.REPLY),
            clock=SystemClock(),
            metrics=Metrics(),
            random_bytes=os.urandom,
            uniform=random.random,
        )
        self.bus.subscribe(every_command(fleet.name, "+"), self._hear)
        self._running: asyncio.Task[None] | None = None

    def add(self, name: str, version: str = "1.0.0", labels: Sequence[str] = ()) -> FakeNode:
        """Certify a node."""
        key, chain = self.fleet.member(name)
        node = self.nodes[name] = FakeNode(name, key, chain, version, labels)
        return node

    def operator(self, folder: Path, name: str = "ann", *roles: OperatorRole) -> Path:
        """Make the folder of an operator, with a passphrase file beside it."""
        key, chain = self.fleet.operator(name, *roles)
        identity = OperatorIdentity(self.fleet.name, name, key.algorithm, key.seed, chain, self.fleet.anchor)
        folder.mkdir(parents=True, exist_ok=True)
        write_operator(folder / f"{name}.operator", identity, PASSPHRASE, os.urandom, Cost(10))
        (folder / "passphrase").write_text(PASSPHRASE + "\n")
        (folder / "broker.toml").write_text(f'url = "{self.url}"\n')
        return folder

    async def __aenter__(self) -> FakeFleet:
        self._running = asyncio.create_task(self.bus.run(lambda: None))
        async with asyncio.timeout(20):
            while not self.bus.connected:
                await asyncio.sleep(0.01)
        for node in self.nodes.values():
            await self.introduce(node)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def introduce(self, node: FakeNode, state: str = "up") -> None:
        """Publish a birth, and what the node can do."""
        utc_ns = time.time_ns()
        birth = Birth(
            self.fleet.name,
            node.name,
            node.version,
            "boot",
            node.epoch,
            utc_ns,
            False,
            state,
            capabilities=(QPU,),
            labels=node.labels,
        )
        await self.say(node, topic(self.fleet.name, node.name, Channel.BIRTH), birth)
        kinds = tuple(KindView(kind, kind, "operator", False, 60.0) for kind in self.kinds)
        told = NodeCommands(node.name, utc_ns, kinds)
        await self.say(node, topic(self.fleet.name, node.name, Channel.COMMANDS), told)

    async def say(self, node: FakeNode, where: str, body: Birth | NodeCommands | CommandReport) -> None:
        """Sign and publish something of a node, retained."""
        header = Header(where, node.name, time.time_ns(), purpose_of(type(body)), time.time_ns())
        data = sign_envelope(header, body, node.key, node.chain)
        await self.bus.publish(where, data, qos=1, retain=True)

    async def report(self, node: FakeNode, request: CommandRequest, state: str, reason: str = "") -> None:
        """Tell where a command stands."""
        revision = node.revision[request.id] = node.revision.get(request.id, 0) + 1
        report = CommandReport(
            request.id, request.kind, state, revision, time.time_ns(), operator="somebody", reason=reason
        )
        await self.say(node, state_topic(self.fleet.name, node.name, request.id), report)

    async def _hear(self, message: Incoming) -> None:
        place = parse_command_topic(message.topic)
        assert place is not None
        node = self.nodes.get(place[1])
        if node is None or not message.payload:
            return
        trust = self.fleet.trust()
        _, order = decode(message.payload, message.topic, CommandOrder, time.time_ns())
        request, member = verify_request(order.signed, message.topic, trust, time.time_ns())
        if not member.roles:
            raise QedgeError("order.role", "No role.")
        node.approvers += [
            verify_approval(each, order.signed, trust, time.time_ns()).subject.name for each in order.approvals
        ]
        if request.id in {each.id for each in node.requests}:
            return
        node.requests.append(request)
        for state, reason in node.script(node, request):
            await self.report(node, request, state, reason)
