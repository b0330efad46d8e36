"""What sealed sessions cost, with two processes and a real broker between them.

`session.setup_p95_ms`: from a question for a peer without a session to its answer: the whole handshake (ML-DSA-65 both
ways, ML-KEM-768 with X25519) and one sealed round trip, over MQTT; the session is forgotten before each. Baseline: the
median of the same question where a session is open. `session.sealed_rtt_*`: pings between two daemons, over MQTT.
`session.frames_per_s`: 200 bytes sealed and opened on one core, in processor time, median of the runs; baseline: bare
AES-256-GCM of the same bytes.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.bench_bus import CONFIG, ping
from benchmarks.broker import Broker
from benchmarks.fleet import Fleet
from benchmarks.node import Node
from benchmarks.report import Figure, percentile
from benchmarks.session_node import Place, serve, sessions_of
from qedge.crypto.session import Secret, SessionKeys
from qedge.wire.mesh import Ping, Pong

SETUPS = 200
PINGS = 2000
FRAMES = 20_000
FRAME_RUNS = 7
FRAME_BYTES = 200
LIMIT_S = 10.0


async def set_up(place: Place, peer: str) -> tuple[list[float], list[float]]:
    """Open a session `SETUPS` times; returns milliseconds with the set-up, and of a second question after each."""
    opening, open_ms = [], []
    async with sessions_of(place) as sessions:
        await sessions.call(peer, Ping(os.urandom(16)), Pong, deadline_s=LIMIT_S)
        for _ in range(SETUPS):
            sessions.forget(peer, "it is measured")
            for times_ms in (opening, open_ms):
                started = time.perf_counter()
                await sessions.call(peer, Ping(os.urandom(16)), Pong, deadline_s=LIMIT_S)
                times_ms.append((time.perf_counter() - started) * 1e3)
    return opening, open_ms


def measure_set_up(port: int) -> tuple[list[float], list[float]]:
    """Measure with a process for the peer."""
    fleet, places = Fleet(), []
    for node in ("a", "b"):
        key, chain = fleet.member(node)
        places.append(Place(node, port, fleet.anchor, key.algorithm, key.seed, chain))
    peer = multiprocessing.get_context("spawn").Process(target=serve, args=(places[1],), daemon=True)
    peer.start()
    try:
        return asyncio.run(set_up(places[0], "b"))
    finally:
        peer.terminate()
        peer.join()


def measure_pings(folder: Path, port: int) -> list[float]:
    """Return round trips in milliseconds between two daemons."""
    fleet, nodes = Fleet("pings"), []
    for name in ("a", "b"):
        fleet.enrol(folder / name, name)
        nodes.append(Node(folder / name, CONFIG.format(name=name, port=port)))
    with nodes[0] as first, nodes[1]:
        return asyncio.run(ping(first, "b", PINGS))


def seal_and_open() -> tuple[float, float]:
    """Return frames a second of processor time, ours and bare."""
    exported, session, data = os.urandom(32), os.urandom(16), os.urandom(FRAME_BYTES)
    one = SessionKeys(Secret(1, session, exported, is_client=True), "mqtt", 0)
    other = SessionKeys(Secret(1, session, exported, is_client=False), "mqtt", 0)
    where = "qedge/v1/fleet/node/sealed"
    bare, nonce, bound = AESGCM(os.urandom(32)), os.urandom(12), where.encode()
    ours, baseline = [], []
    gc.collect()
    for _ in range(FRAME_RUNS):
        started = time.process_time()
        for _ in range(FRAMES):
            other.open(one.seal(data, where, 0), where)
        ours.append(FRAMES / (time.process_time() - started))
        started = time.process_time()
        for _ in range(FRAMES):
            bare.decrypt(nonce, bare.encrypt(nonce, data, bound), bound)
        baseline.append(FRAMES / (time.process_time() - started))
    return statistics.median(ours), statistics.median(baseline)


def run() -> list[Figure]:
    """Measure, with mosquitto where it is installed and otherwise with the broker of the iotcore wheel."""
    there = shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists()
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as name:
        folder = Path(name)
        with Broker("mosquitto" if there else "iotcore", folder / "broker") as broker:
            opening, open_ms = measure_set_up(broker.port)
            times_ms = measure_pings(folder, broker.port)
    ours, bare = seal_and_open()
    return [
        Figure("session.setup_p95_ms", percentile(opening, 0.95), "ms", SETUPS, 50, statistics.median(open_ms)),
        Figure("session.sealed_rtt_p50_ms", statistics.median(times_ms), "ms", PINGS, 3),
        Figure("session.sealed_rtt_p99_ms", percentile(times_ms, 0.99), "ms", PINGS, 8),
        Figure("session.frames_per_s", ours, "1/s", FRAMES * FRAME_RUNS, 50_000, bare, at_least=True),
    ]
