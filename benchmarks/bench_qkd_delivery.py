"""What applications get from a key manager by ETSI 014, over mutual TLS, with a client on the second core.

`qkd.enc_keys_per_s`: requests for one 256-bit key a second, answered by one process to `SAES` applications at once,
each over a connection of its own that is kept. `qkd.enc_keys_cpu_us`: processor time of the server for one of them.
`qkd.enc_keys_p99_ms`: the 99th percentile of how long such a request takes, from when it was due, when they come at
`qkd.enc_keys_offered_per_s`, a third of what the same server had just answered. Requests are offered in `WINDOWS`
windows of `PACED`, and the figure is that of the quietest one, because on a shared machine the others measure who else
was at work; the baseline is taken in the same way.
`qkd.keys_per_s_128`: keys a second in requests of 128. Baseline: a bare aiohttp server that answers as many bytes over
the same TLS. Keys come from the store for tests, in memory; the journal of the real store is not in it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import psutil
import uvloop
from aiohttp import web

from benchmarks.report import Figure, percentile
from qedge.base.log import LogConfig, configure
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.client.kme import path_of
from qedge.client.kme_link import Credentials, KmeLink, place_of
from qedge.crypto.web_authority import make_request, new_key
from qedge.crypto.web_files import WebFolder
from qedge.qkd.delivery.config import DeliveryConfig, SaeConfig
from qedge.qkd.delivery.desk import KeyDesk
from qedge.qkd.delivery.fake import FakeLinks, FakeVault
from qedge.qkd.delivery.registry import Registry
from qedge.web.key_delivery.service import KeyService
from qedge.web.key_delivery.tls import TlsFiles, load_tls

SAES: Final = 64
REQUESTS: Final = 4000
WINDOWS: Final = 8
PACED: Final = 500
BATCHES: Final = 300
RUNS: Final = 3


@dataclass(frozen=True)
class Site:
    """Where certificates are: those of the server in the folder of the authority, clients' beside them."""

    folder: Path

    def files(self) -> TlsFiles:
        """Return the server's files."""
        own = WebFolder(self.folder)
        return TlsFiles(*own.server_files, own.authority_file, own.revocations_file)

    def client(self, number: int) -> Credentials:
        """Return the files of an application."""
        return Credentials(self.folder / f"{number}.crt", self.folder / f"{number}.key", self.folder / "authority.pem")

    def make(self) -> None:
        """Make all certificates."""
        folder, utc_ns = WebFolder(self.folder), time.time_ns()
        authority = folder.found("benchmark", utc_ns=utc_ns, random_bytes=os.urandom)
        folder.ensure_server(authority, "A", ("127.0.0.1",), utc_ns=utc_ns, random_bytes=os.urandom)
        for number in range(SAES):
            key, files = new_key(os.urandom), self.client(number)
            uri = f"sae-{number}"
            certificate = authority.issue_client(make_request(key, uri), uri, utc_ns=utc_ns, random_bytes=os.urandom)
            files.certificate.write_text(certificate)
            files.private_key.write_text(key)


async def serve_keys(site: Site, told: Connection) -> None:
    """Be the key manager."""
    clock = SystemClock()
    saes = {f"sae-{number}": SaeConfig(permit=("*",)) for number in range(SAES)} | {"slave": SaeConfig(node="B")}
    config = DeliveryConfig(enabled=True, port=0, max_keys_per_request=128)
    vault = FakeVault("A", FakeLinks(clock, os.urandom, bits=1 << 60))
    desk = KeyDesk(config, Registry("A", saes), vault, clock=clock)
    service = KeyService(desk, site.files(), clock=clock, metrics=Metrics())
    await service.run(lambda: told.send(service.address))


async def serve_bytes(site: Site, told: Connection, size: int) -> None:
    """Be a bare server that answers `size` bytes to everything."""
    body = b"x" * size

    async def handle(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    server = web.Server(handle)
    listening = await asyncio.get_running_loop().create_server(
        server, "127.0.0.1", 0, ssl=load_tls(site.files()).context
    )
    told.send(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    await listening.serve_forever()


def serve(site: Site, told: Connection, size: int) -> None:
    """Run one of the two in a process of its own; `size` 0: the key manager."""
    configure(LogConfig(level="error"))
    uvloop.run(serve_bytes(site, told, size) if size else serve_keys(site, told))


async def ask(links: Sequence[KmeLink], each: int, path: str) -> list[float]:
    """Ask `each` times over every connection at once; returns milliseconds of every request."""

    async def one(link: KmeLink) -> list[float]:
        times_ms = []
        for _ in range(each):
            started = time.perf_counter()
            reply = await link.request("GET", path)
            times_ms.append((time.perf_counter() - started) * 1e3)
            assert reply.status == 200
        return times_ms

    return [each_ms for some in await asyncio.gather(*(one(link) for link in links)) for each_ms in some]


async def ask_paced(links: Sequence[KmeLink], number: int, rate: float, path: str) -> list[float]:
    """Ask at a steady rate, whoever is free; returns milliseconds from when a request was due."""
    free: asyncio.Queue[KmeLink] = asyncio.Queue()
    for link in links:
        free.put_nowait(link)
    begun = time.perf_counter()

    async def one(place: int) -> float:
        due = begun + place / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        link = await free.get()
        reply = await link.request("GET", path)
        assert reply.status == 200
        free.put_nowait(link)
        return (time.perf_counter() - due) * 1e3

    return list(await asyncio.gather(*(one(place) for place in range(number))))


@dataclass(frozen=True)
class Measured:
    """Requests a second, processor time of one in µs, when paced the rate offered and p99 in ms of the quietest window,
    keys a second by 128, answer bytes."""

    rate: float
    cpu_us: float
    offered: float
    p99_ms: float
    by_128: float
    size: int


async def measure(site: Site, url: str, server: psutil.Process) -> Measured:
    """Measure one server."""
    place, path = place_of(url), path_of("slave", "enc_keys")
    links = [KmeLink(place, site.client(number).context(), timeout_s=60.0) for number in range(SAES)]
    try:
        reply = await links[0].request("GET", path)
        await ask(links, 2, path)
        number, before, started = REQUESTS // SAES * SAES, server.cpu_times(), time.perf_counter()
        await ask(links, REQUESTS // SAES, path)
        rate, after = number / (time.perf_counter() - started), server.cpu_times()
        cpu_us = (after.user + after.system - before.user - before.system) / number * 1e6
        offered = rate / 3
        windows = [percentile(await ask_paced(links, PACED, offered, path), 0.99) for _ in range(WINDOWS)]
        started = time.perf_counter()
        await ask(links[:8], BATCHES // 8, f"{path}?number=128")
        by_128 = BATCHES // 8 * 8 * 128 / (time.perf_counter() - started)
        return Measured(rate, cpu_us, offered, min(windows), by_128, len(reply.body))
    finally:
        for link in links:
            await link.close()


def measured(site: Site, size: int) -> Measured:
    """Measure with a server in another process."""
    context = multiprocessing.get_context("spawn")
    hear, told = context.Pipe(duplex=False)
    server = context.Process(target=serve, args=(site, told, size), daemon=True)
    server.start()
    try:
        return uvloop.run(measure(site, str(hear.recv()), psutil.Process(server.pid)))
    finally:
        server.terminate()
        server.join()


def run() -> list[Figure]:
    """Measure both in turn, `RUNS` times; medians, but for the quietest window."""
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as folder:
        site = Site(Path(folder) / "web")
        site.make()
        ours, bare = [], []
        for _ in range(RUNS):
            ours.append(measured(site, 0))
            bare.append(measured(site, ours[-1].size))
    runs = RUNS * REQUESTS // SAES * SAES
    return [
        Figure("qkd.enc_keys_per_s", middle(ours, "rate"), "1/s", runs, baseline=middle(bare, "rate")),
        Figure("qkd.enc_keys_cpu_us", middle(ours, "cpu_us"), "us", runs, baseline=middle(bare, "cpu_us")),
        Figure("qkd.enc_keys_offered_per_s", middle(ours, "offered"), "1/s", RUNS, baseline=middle(bare, "offered")),
        Figure("qkd.enc_keys_p99_ms", quietest(ours), "ms", RUNS * WINDOWS * PACED, 20.0, quietest(bare)),
        Figure("qkd.keys_per_s_128", middle(ours, "by_128"), "1/s", RUNS * BATCHES),
    ]


def middle(runs: Sequence[Measured], name: str) -> float:
    """Return the median of one figure."""
    return statistics.median(float(getattr(run, name)) for run in runs)


def quietest(runs: Sequence[Measured]) -> float:
    """Return the 99th percentile of the quietest window of all runs."""
    return min(run.p99_ms for run in runs)
