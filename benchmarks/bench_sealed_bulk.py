"""How much goes through one sealed direct channel between two daemon processes on one box.

`sealed_bulk.gbit_per_s`: pings with a load of 1 MiB, eight under way, over one TCP stream on loopback; only the load is
counted, and one way. Everything is in it: MessagePack, parts, AES-256-GCM with keys of the session, the answers.
Baseline of the same run: asyncio streams between two processes on the daemon's kind of event loop, frames of the same
size, nothing sealed and always from the same buffer.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from benchmarks.broker import Broker
from benchmarks.fleet import Fleet
from benchmarks.node import Node
from benchmarks.report import Figure
from qedge.base.errors import QedgeError
from qedge.client.node import NodeClient
from qedge.mesh.direct import PART_BYTES
from qedge.wire.node import PingRequest

LOAD_BYTES = 2**20
PARALLEL = 8
COUNT = 250
ROUNDS = 5
PLAIN_BYTES = 512 * 2**20
LIMIT_S = 30.0

CONFIG = """
[node]
name = "{name}"
[broker]
url = "mqtt://127.0.0.1:{port}"
[drivers.qrng]
driver = "sim_qrng"
"""


async def sealed(node: Node, peer: str) -> list[float]:
    """Wait for the direct channel and return Gbit/s of each round."""
    async with NodeClient(node.socket) as client:
        deadline = time.monotonic() + LIMIT_S
        path = ""
        while path != "direct":
            try:
                path = (await client.ping(PingRequest(peer))).path
            except QedgeError:
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise RuntimeError("the nodes have no direct channel")
            await asyncio.sleep(0.1)
        request = PingRequest(peer, COUNT, size_bytes=LOAD_BYTES, parallel=PARALLEL)
        speeds = []
        for _ in range(ROUNDS):
            view = await client.ping(request)
            if view.path != "direct":
                raise RuntimeError("the direct channel was lost during the measurement")
            speeds.append(COUNT * LOAD_BYTES * 8 / view.elapsed_s / 1e9)
        return speeds


def sink(port: Connection) -> None:
    """Take frames of `PART_BYTES` bytes after a length until the end, as the direct channel does, and answer once."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(PLAIN_BYTES // PART_BYTES):
            await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        writer.write(b".")
        await writer.drain()

    async def serve() -> None:
        server = await asyncio.start_server(take, "127.0.0.1", 0, limit=4 * 2**20)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


async def plain(port: int) -> float:
    """Return Gbit/s of plain frames."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data, size = bytes(PART_BYTES), PART_BYTES.to_bytes(4, "big")
    started = time.perf_counter()
    for _ in range(PLAIN_BYTES // PART_BYTES):
        writer.writelines((size, data))
        await writer.drain()
    await reader.readexactly(1)
    elapsed_s = time.perf_counter() - started
    writer.close()
    return PLAIN_BYTES * 8 / elapsed_s / 1e9


def measure_plain() -> float:
    """Measure the baseline with a process of its own for the receiver."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=sink, args=(there,), daemon=True)
    process.start()
    try:
        port = here.recv()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return statistics.median(runner.run(plain(port)) for _ in range(ROUNDS))
    finally:
        process.terminate()
        process.join()


def run() -> list[Figure]:
    """Measure."""
    there = shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists()
    fleet, nodes = Fleet(), []
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as name:
        folder = Path(name)
        with Broker("mosquitto" if there else "iotcore", folder / "broker") as broker:
            for node in ("a", "b"):
                fleet.enrol(folder / node, node)
                nodes.append(Node(folder / node, CONFIG.format(name=node, port=broker.port)))
            with nodes[0] as first, nodes[1]:
                speeds = asyncio.run(sealed(first, "b"))
    value = statistics.median(speeds)
    return [Figure("sealed_bulk.gbit_per_s", value, "Gbit/s", ROUNDS * COUNT, 1, measure_plain(), at_least=True)]
