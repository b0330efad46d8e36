"""10,000 devices at one daemon: enrolment, memory, a storm of reconnects, and new keys for all.

A daemon as a user starts it, with the gateway on, a policy and a private broker. Half of the devices are rich and
enrol, prove and seal as `qedge_device` does (ML-KEM, ML-DSA), half are constrained; two load processes hold their
connections, from 20 loopback addresses. QEDGE_BENCH_DEVICES sets another number; a process here may have 20,000
descriptors, so of more than 16,000 devices the others go offline as soon as they have their session, which stays in
the node's memory.

`devices.sessions`: sessions the node counts once all have come, against the number of devices.
`devices.enrolments_per_s`: rich devices over the time from the first connection to the last enrolment; each is two
connections, a key pair, a certificate and a full handshake. Node and load share the cores of the
box. `devices.enrol_cpu_ms`: processor time of the node
for a rich and a constrained device from nothing to a session, together. `devices.rss_kib_each`: resident memory of
the daemon over that without devices, for each. `devices.storm_control_p99_ms`: `GET /health/ready` at the unix
socket, every 20 ms while all connections are dropped and made anew at once with resumption and join; the best of
three storms, since whoever measures shares two cores with node and load; its baseline is the p99 of a process that does
nothing but answer (`bystander`), asked in between. `devices.storm_s`: how long that storm took.
`devices.storm_longest_ms`: the longest such answer in it. `devices.storm_waited_share`: part of it for which the
daemon could have run and the load or others had both processors. `devices.rotate_all_cpu_s_10k`: processor time of the
daemon from `rotate` of all devices to the last new session, for 10,000.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bystander import Bystander
from benchmarks.device_crowd import CrowdProcess, Wave
from benchmarks.gateway_node import configure, drafts, import_devices
from benchmarks.node import Node
from benchmarks.report import Figure, percentile
from qedge.client.node import NodeClient

DEVICES = 10_000
MOST_ONLINE = 16_000
PROCESSES = 2
AT_ONCE = 200
STORMS = 3
PROBE_S = 0.02
LIMIT_S = 600.0


@dataclass(frozen=True)
class Storm:
    """How the node answered while all came back at once."""

    p99_ms: float
    bystander_ms: float
    longest_ms: float
    probes: int
    seconds: float
    waited: float


async def _sessions(node: Node) -> int:
    async with NodeClient(node.socket) as client:
        gateway = (await client.status()).gateway
    assert gateway is not None
    return gateway.sessions


async def _rotate(node: Node) -> None:
    async with NodeClient(node.socket, timeout_s=120) as client:
        await client.devices.rotate()


class Prober:
    """Asks the node for its health over one connection of the unix socket."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(30)
        self._sock.connect(str(path))

    def ask_ms(self) -> float:
        """Ask once; returns the time until the answer."""
        started = time.perf_counter()
        self._sock.sendall(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._sock.recv(65_536)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = next(
            int(row.split(b":")[1]) for row in head.split(b"\r\n") if row.lower().startswith(b"content-length")
        )
        while len(body) < length:
            body += self._sock.recv(65_536)
        return (time.perf_counter() - started) * 1e3

    def close(self) -> None:
        """End the connection."""
        self._sock.close()


@contextmanager
def _crowds(lines: list[str], port: int) -> Iterator[list[CrowdProcess]]:
    share = -(-len(lines) // PROCESSES)
    with ExitStack() as stack:
        yield [
            stack.enter_context(CrowdProcess(lines[start : start + share], port, start))
            for start in range(0, len(lines), share)
        ]


def _all(crowds: list[CrowdProcess], name: str, *arguments: float) -> list[Wave]:
    for crowd in crowds:
        crowd.begin(name, *arguments)
    return [crowd.end() for crowd in crowds]


def _storm(node: Node, bystander: Bystander, crowds: list[CrowdProcess], count: int) -> Storm:
    prober, times_ms, others_ms = Prober(node.socket), [], []
    waited_s, started = node.waited_s(), time.monotonic()
    for crowd in crowds:
        crowd.begin("connect", count, LIMIT_S, count)
    while not all(crowd.is_done for crowd in crowds):
        times_ms.append(prober.ask_ms())
        time.sleep(PROBE_S / 2)
        others_ms.append(bystander.ask_ms())
        time.sleep(PROBE_S / 2)
    waited = (node.waited_s() - waited_s) / (time.monotonic() - started)
    waves = [crowd.end() for crowd in crowds]
    prober.close()
    if sum(wave.open for wave in waves) < count:
        raise RuntimeError(f"{waves} of {count} came back")
    took_s = max(wave.seconds for wave in waves)
    p99_ms, bystander_ms = percentile(times_ms, 0.99), percentile(others_ms, 0.99)
    return Storm(p99_ms, bystander_ms, max(times_ms), len(times_ms), took_s, waited)


def run() -> list[Figure]:
    """Measure."""
    count = int(os.environ.get("QEDGE_BENCH_DEVICES", DEVICES))
    online = min(count, MOST_ONLINE)
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as folder:
        home = Path(folder) / secrets.token_hex(2)
        with Node(home, configure(home)) as node:
            time.sleep(2.0)
            empty_kib = node.rss_kib()
            started = time.monotonic()
            lines, port = asyncio.run(import_devices(node, drafts(count)))
            import_s = time.monotonic() - started
            with _crowds(lines, port) as crowds:
                cpu_s = node.cpu_s()
                waves = _all(crowds, "connect", AT_ONCE, LIMIT_S * count / DEVICES, online // PROCESSES)
                enrol_cpu_s = node.cpu_s() - cpu_s
                enrolled_s = max(wave.enrolled_s for wave in waves)
                time.sleep(3.0)
                held = asyncio.run(_sessions(node))
                each_kib = (node.rss_kib() - empty_kib) / count
                storms = []
                if online == count:
                    with Bystander() as bystander:
                        storms = [_storm(node, bystander, crowds, count) for _ in range(STORMS)]
                cpu_s = node.cpu_s()
                for crowd in crowds:
                    crowd.begin("renew", LIMIT_S)
                asyncio.run(_rotate(node))
                renewed = sum(crowd.end().open for crowd in crowds)
                rotate_cpu_s = (node.cpu_s() - cpu_s) / renewed * 10_000
    figures = [
        Figure("devices.sessions", held, "1", count, count, at_least=True),
        Figure("devices.imports_per_s", count / import_s, "1/s", count),
        Figure("devices.enrolments_per_s", count / 2 / enrolled_s, "1/s", count // 2),
        Figure("devices.enrol_cpu_ms", enrol_cpu_s / (count / 2) * 1e3, "ms", count // 2),
        Figure("devices.rss_kib_each", each_kib, "KiB", count, 12),
        Figure("devices.rotate_all_cpu_s_10k", rotate_cpu_s, "s", renewed, 60),
    ]
    if storms:
        best = min(storms, key=lambda storm: storm.p99_ms)
        figures += [
            Figure("devices.storm_control_p99_ms", best.p99_ms, "ms", best.probes, 50, best.bystander_ms),
            Figure("devices.storm_longest_ms", best.longest_ms, "ms", best.probes),
            Figure("devices.storm_s", best.seconds, "s", count),
            Figure("devices.storm_waited_share", best.waited, "1", 1),
        ]
    return figures
