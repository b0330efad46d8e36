"""How soon what one node puts into the shared state is visible on all others, each of which has checked its signature.

Daemons without quantum processors. `sync.local_*`: on one broker; `sync.bridged_*`: on two mosquittos of two sites with
the bridge of `configs/brokers/`, writers and readers on both sides. A sample is the time from the request to put, over
the unix socket of one daemon, until the entry was checked and counted at the slowest of the others, which each says of
itself (`heard_utc_ns`; all have the clock of this box). The baseline is the same way for bare MQTT: publish at QoS 1,
until the slowest of as many subscribers has it, through the same broker or bridge, in turn with ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import aiomqtt

from benchmarks.bench_membership import reach
from benchmarks.bridge import BridgedBrokers, mosquitto
from benchmarks.broker import Broker
from benchmarks.fleet import Fleet
from benchmarks.node import Node
from benchmarks.report import ROUNDS, Figure, Machine, percentile, quietest
from qedge.base.errors import QedgeError
from qedge.client.node import NodeClient
from qedge.wire.mesh import PeerState

FLEET = "bench"
NODES = 4
PUTS = 60
VALUE_BYTES = 200
PAUSE_S = 0.01
ASK_S = 0.1
LIMIT_S = 30.0
WHERE = "bench/plain"

CONFIG = """
[node]
name = "{name}"
[broker]
url = "mqtt://127.0.0.1:{port}"
[state]
site = "{site}"
[drivers.qrng]
driver = "sim_qrng"
"""


class Crowd:
    """Daemons of one fleet, with an open client for each."""

    def __init__(self, clients: Sequence[NodeClient]) -> None:
        self.clients = clients
        self._number = 0

    async def put_s(self) -> float:
        """Put something at one node and return the seconds until the last of the others shows it."""
        self._number += 1
        writer = self._number % len(self.clients)
        value = self._number.to_bytes(8, "big") * (VALUE_BYTES // 8)
        others = [client for index, client in enumerate(self.clients) if index != writer]
        key = f"k{self._number % 16}"
        await asyncio.sleep(PAUSE_S)  # what the last one left to do is done by then
        started_ns = time.time_ns()
        await self.clients[writer].state.put("settings", key, value)
        return (max(await asyncio.gather(*(heard(client, key, value) for client in others))) - started_ns) / 1e9


async def heard(client: NodeClient, key: str, value: bytes) -> int:
    """Wait until a node has a value; returns when it counted there, UTC in nanoseconds.

    The first question comes when the value has long been there: questions at the same time would be measured, too.
    """
    async with asyncio.timeout(LIMIT_S):
        while True:
            await asyncio.sleep(ASK_S)
            with contextlib.suppress(QedgeError):
                for row in (await client.state.get("settings", key)).rows:
                    if row.value == value:
                        return row.heard_utc_ns


class Plain:
    """Bare MQTT clients, as many as daemons, on the same brokers."""

    def __init__(self, clients: Sequence[aiomqtt.Client]) -> None:
        self._clients = clients
        self._number = 0

    async def put_s(self) -> float:
        """Publish at one client and return the seconds until the last of the others has it."""
        self._number += 1
        writer = self._number % len(self._clients)
        value = self._number.to_bytes(8, "big") * 25
        others = [client for index, client in enumerate(self._clients) if index != writer]
        waits = [asyncio.create_task(receives(client, value)) for client in others]
        await asyncio.sleep(PAUSE_S)
        started = time.perf_counter()
        await self._clients[writer].publish(WHERE, value, qos=1)
        return max(await asyncio.gather(*waits)) - started


async def receives(client: aiomqtt.Client, value: bytes) -> float:
    """Wait until a client gets a message; returns when it did."""
    async with asyncio.timeout(LIMIT_S):
        async for message in client.messages:
            if message.payload == value:
                return time.perf_counter()
    raise RuntimeError("the connection ended")


@asynccontextmanager
async def plain_clients(ports: Sequence[int]) -> AsyncIterator[Plain]:
    """Connect a bare client for each of `ports`."""
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for number, port in enumerate(ports):
            client = aiomqtt.Client(
                "127.0.0.1",
                port,
                identifier=f"plain-{number}",
                protocol=aiomqtt.ProtocolVersion.V5,
                socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            )
            await stack.enter_async_context(client)
            await client.subscribe(WHERE, qos=1)
            clients.append(client)
        yield Plain(clients)


async def measure(nodes: Sequence[Node], ports: Sequence[int], machine: Machine) -> tuple[list[float], list[float]]:
    """Take turns with bare MQTT; returns the quietest rounds of both, in seconds."""
    ours: list[list[float]] = []
    bare: list[list[float]] = []
    async with contextlib.AsyncExitStack() as stack:
        crowd = Crowd([await stack.enter_async_context(NodeClient(node.socket)) for node in nodes])
        plain = await stack.enter_async_context(plain_clients(ports))
        for _ in range(8):  # connections and caches of all
            await crowd.put_s()
            await plain.put_s()
        for _ in range(ROUNDS):
            machine.look()
            ours.append([await crowd.put_s() for _ in range(PUTS)])
            bare.append([await plain.put_s() for _ in range(PUTS)])
    return list(quietest(ours)), list(quietest(bare))


def start(stack: ExitStack, folder: Path, ports: Sequence[int], sites: Sequence[str]) -> list[Node]:
    """Start a daemon for each of `ports`, at the site of the same place, and let those of each site see each other."""
    fleet, nodes = Fleet(FLEET), list[Node]()
    for number, (port, site) in enumerate(zip(ports, sites, strict=True)):
        name = f"n{number}"
        fleet.enrol(folder / name, name)
        node = Node(folder / name, CONFIG.format(name=name, port=port, site=site))
        nodes.append(stack.enter_context(node))
    for number, site in enumerate(sites):
        others = [node for index, node in enumerate(nodes) if index != number and sites[index] == site]
        asyncio.run(reach(others, f"n{number}", PeerState.ALIVE))
    return nodes


def figures(kind: str, target_ms: float, ours: list[float], bare: list[float]) -> list[Figure]:
    """Make the figures of one arrangement."""
    return [
        Figure(
            f"sync.{kind}_p50_ms",
            percentile(ours, 0.5) * 1e3,
            "ms",
            len(ours) * ROUNDS,
            None,
            percentile(bare, 0.5) * 1e3,
        ),
        Figure(
            f"sync.{kind}_p99_ms",
            percentile(ours, 0.99) * 1e3,
            "ms",
            len(ours) * ROUNDS,
            target_ms,
            percentile(bare, 0.99) * 1e3,
        ),
    ]


def run() -> list[Figure]:
    """Measure on one broker, then over a bridge where mosquitto is there."""
    machine, found = Machine(), list[Figure]()
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as name:
        folder = Path(name)
        with Broker("mosquitto" if mosquitto() else "iotcore", folder / "broker") as broker, ExitStack() as stack:
            ports = [broker.port] * NODES
            nodes = start(stack, folder / "one", ports, ["one"] * NODES)
            found += figures("local", 10, *asyncio.run(measure(nodes, ports, machine)))
        if not mosquitto():
            print('{"note": "sync.bridged_p99_ms was left out: mosquitto is not installed"}', flush=True)
            return [*found, machine.figure()]
        with BridgedBrokers(folder / "brokers", FLEET, (f"topic {WHERE} both 1",)) as brokers, ExitStack() as stack:
            ports = [brokers.ports[number * 2 // NODES] for number in range(NODES)]
            nodes = start(stack, folder / "two", ports, [f"s{number * 2 // NODES}" for number in range(NODES)])
            found += figures("bridged", 100, *asyncio.run(measure(nodes, ports, machine)))
    return [*found, machine.figure()]
