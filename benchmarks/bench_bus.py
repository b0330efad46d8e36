"""Round trips over MQTT between two daemon processes of one fleet, sealed, QoS 1, one after the other.

`bus.rtt_*` with mosquitto, `bus.child_rtt_p50_ms` with the broker of the iotcore wheel. Baseline of the same run: the
same question and answer between two plain aiomqtt clients with default settings on the same broker, which wait for
delayed acknowledgements.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import aiomqtt

from benchmarks.broker import Broker
from benchmarks.fleet import Fleet
from benchmarks.node import Node
from benchmarks.report import Figure, percentile
from qedge.base.errors import QedgeError
from qedge.client.node import NodeClient
from qedge.wire.node import PingRequest

COUNT = 1000
WARM_UP = 50
PLAIN_COUNT = 25
PLAIN_LIMIT_S = 30.0

CONFIG = """
[node]
name = "{name}"
[broker]
url = "mqtt://127.0.0.1:{port}"
[mesh]
listen = "off"
[drivers.qrng]
driver = "sim_qrng"
"""


async def ping(node: Node, peer: str, count: int) -> list[float]:
    """Let one daemon ask the other `count` times; returns milliseconds."""
    async with NodeClient(node.socket) as client:
        deadline = time.monotonic() + 30
        while True:
            try:
                await client.ping(PingRequest(node=peer, count=WARM_UP))
                return list((await client.ping(PingRequest(node=peer, count=count))).rtt_ms)
            except QedgeError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)


async def plain(port: int) -> list[float]:
    """Ask the same way with two clients of the library as it comes."""
    times_ms: list[float] = []
    version = aiomqtt.ProtocolVersion.V5
    async with (
        aiomqtt.Client("127.0.0.1", port, protocol=version) as asker,
        aiomqtt.Client("127.0.0.1", port, protocol=version) as answerer,
    ):
        await answerer.subscribe("bench/question", qos=1)
        await asker.subscribe("bench/answer", qos=1)

        questions, answers = aiter(answerer.messages), aiter(asker.messages)

        async def answer() -> None:
            for _ in range(PLAIN_COUNT):
                message = await anext(questions)
                await answerer.publish("bench/answer", message.payload, qos=1)

        async def ask() -> None:
            for _ in range(PLAIN_COUNT):
                started = time.perf_counter()
                await asker.publish("bench/question", bytes(64), qos=1)
                await anext(answers)
                times_ms.append((time.perf_counter() - started) * 1e3)

        async with asyncio.timeout(PLAIN_LIMIT_S):
            await asyncio.gather(answer(), ask())
    return times_ms


def measure(kind: str, folder: Path) -> tuple[list[float], float]:
    """Return the round trips in milliseconds on one kind of broker, and the baseline's median."""
    with Broker(kind, folder / f"broker-{kind}") as broker:
        nodes, fleet = [], Fleet()
        for name in ("a", "b"):
            fleet.enrol(folder / f"{kind}-{name}", name)
            nodes.append(Node(folder / f"{kind}-{name}", CONFIG.format(name=name, port=broker.port)))
        with nodes[0] as first, nodes[1]:
            times_ms = asyncio.run(ping(first, "b", COUNT))
        return times_ms, statistics.median(asyncio.run(plain(broker.port)))


def run() -> list[Figure]:
    """Measure both brokers; mosquitto is left out where it is not installed."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as name:
        folder = Path(name)
        if shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists():
            times_ms, base_ms = measure("mosquitto", folder)
            figures.append(Figure("bus.rtt_p50_ms", statistics.median(times_ms), "ms", COUNT, 2.5, base_ms))
            figures.append(Figure("bus.rtt_p99_ms", percentile(times_ms, 0.99), "ms", COUNT, 8, base_ms))
        times_ms, base_ms = measure("iotcore", folder)
        figures.append(Figure("bus.child_rtt_p50_ms", statistics.median(times_ms), "ms", COUNT, 5, base_ms))
    return figures
