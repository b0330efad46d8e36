"""A day offline comes back over mosquitto while new telemetry goes ahead of it, signed by the node.

`telemetry.live_p99_ms`: from `take` to a subscriber, for one new item every 20 ms, while 28,800 items that waited are
replayed at 2,000 a second; baseline: the same without a replay, in the same run. `telemetry.replay_items_s`: the same
number of items as fast as it goes. `telemetry.replay_lost`: items of the two replays that did not arrive, or not in
order. `telemetry.burst_lost`: of 10,000 new items in a row.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiomqtt
import msgspec

from benchmarks.broker import Broker
from benchmarks.report import Figure, Machine, percentile
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.config import BusConfig
from qedge.bus.endpoint import external_endpoint
from qedge.bus.service import Bus
from qedge.crypto.signed import sign_envelope
from qedge.fleet.telemetry.config import TelemetryConfig
from qedge.fleet.telemetry.model import Item
from qedge.fleet.telemetry.service import TelemetryService
from qedge.fleet.telemetry.spool import Spool
from qedge.fleet.telemetry.uplink import BusTelemetry
from qedge.mesh.crypto_thread import CryptoThread
from qedge.store.spool_schemas import TELEMETRY_SCHEMA
from qedge.store.store import Store
from qedge.wire.envelope import Header, take_apart
from qedge.wire.telemetry import JobsReading, TelemetryBatch, TelemetryEvent, TelemetryItem
from qedge.wire.topics import Channel, topic
from tests.integration.fleet_site import ThrowAwayFleet

DAY = 10 * 2880
PACE = 2000
EVERY_S = 0.02
QUIET_ITEMS = 400
BURST = 10_000


class Outage:
    """A way to the broker that can be shut."""

    def __init__(self, uplink: BusTelemetry) -> None:
        self.open = True
        self._uplink = uplink

    @property
    def is_up(self) -> bool:
        """Whether the way is open and the broker there."""
        return self.open and self._uplink.is_up

    async def send(self, batch: TelemetryBatch) -> None:
        """Send."""
        await self._uplink.send(batch)


class Site:
    """One node's telemetry and a subscriber, in one process, over a broker of its own."""

    def __init__(self, folder: Path, port: int, per_s: int) -> None:
        clock, metrics = SystemClock(), Metrics()
        config = BusConfig(url=f"mqtt://127.0.0.1:{port}")
        self.port = port
        self.bus = Bus(
            config,
            lambda: external_endpoint(config),
            client_id=f"qedge-f-{folder.name}",
            reply_topic=topic("f", folder.name, Channel.REPLY),
            clock=clock,
            metrics=metrics,
            random_bytes=os.urandom,
            uniform=random.random,
        )
        key, chain = ThrowAwayFleet("f").member(folder.name)
        thread = CryptoThread()

        async def sign(header: Header, body: msgspec.Struct) -> bytes:
            return await thread.run(sign_envelope, header, body, key, chain)

        settings = TelemetryConfig(enabled=True, replay_per_s=per_s)
        self.store = Store(folder / "telemetry.sqlite3", metrics=metrics, schema=TELEMETRY_SCHEMA)
        self.spool = Spool(settings, self.store, clock=clock, metrics=metrics, random_bytes=os.urandom)
        self.way = Outage(BusTelemetry("f", folder.name, self.bus, sign, clock=clock))
        self.service = TelemetryService(settings, self.spool, self.way, clock=clock, metrics=metrics)
        self.waited: list[TelemetryItem] = []
        self.new_ms: list[float] = []
        self.filter = f"qedge/v1/f/{folder.name}/telemetry/+"

    async def listen(self, ready: asyncio.Event) -> None:
        """Be the subscriber."""
        version = aiomqtt.ProtocolVersion.V5
        async with aiomqtt.Client("127.0.0.1", self.port, protocol=version) as client:
            await client.subscribe(self.filter, qos=1)
            ready.set()
            async for message in client.messages:
                batch = msgspec.msgpack.decode(take_apart(bytes(message.payload)).body, type=TelemetryBatch)
                now_ns = time.time_ns()
                for item in batch.items:
                    if isinstance(item.body, JobsReading):
                        self.waited.append(item)
                    else:
                        self.new_ms.append((now_ns - item.utc_ns) / 1e6)

    def tell(self) -> None:
        """Tell something new."""
        self.service.take(Item(time.time_ns(), TelemetryEvent("bench", "node", "new")))

    async def go_offline(self) -> None:
        """Let a day pass without the broker."""
        self.way.open = False
        await _until(lambda: not self.service.view().up)
        for number in range(DAY):
            self.service.take(Item(time.time_ns(), JobsReading(number, 0, 0, 0)))
            if number % 4000 == 0:
                await self.spool.settled()
        await self.spool.settled()

    def lost(self) -> int:
        """Count what of the day is missing or out of order."""
        found = [item.body.queued for item in self.waited if isinstance(item.body, JobsReading)]
        return sum(number != expected for number, expected in zip(found, range(DAY), strict=False)) + DAY - len(found)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def _until(condition: Callable[[], bool], limit_s: float = 120.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what is waited for is counted in another task
            await asyncio.sleep(0.005)


async def _tell_while(site: Site, condition: Callable[[], bool]) -> list[float]:
    """Tell something new every 20 ms as long as a condition holds; returns milliseconds."""
    site.new_ms.clear()
    told = 0
    while condition():
        site.tell()
        told += 1
        await asyncio.sleep(EVERY_S)
    await _until(lambda: len(site.new_ms) >= told)
    return list(site.new_ms)


async def _measure(folder: Path, port: int, per_s: int, *, paced: bool) -> dict[str, list[float]]:
    site = Site(folder, port, per_s)
    ready, listening = asyncio.Event(), asyncio.Event()
    tasks = [
        asyncio.create_task(site.bus.run(lambda: None)),
        asyncio.create_task(site.listen(listening)),
        asyncio.create_task(site.service.run(ready.set)),
    ]
    found: dict[str, list[float]] = {}
    try:
        await ready.wait()
        await listening.wait()
        await _until(lambda: site.bus.connected)
        if paced:
            left = iter(range(QUIET_ITEMS))
            found["quiet"] = await _tell_while(site, lambda: next(left, None) is not None)
        await site.go_offline()
        started = time.perf_counter()
        site.way.open = True
        await _until(lambda: site.service.view().up)  # what is told before waits like the rest
        if paced:
            found["live"] = await _tell_while(site, lambda: len(site.waited) < DAY)
        await _until(lambda: len(site.waited) >= DAY)
        found["rate"] = [DAY / (time.perf_counter() - started)]
        found["lost"] = [float(site.lost())]
        if not paced:
            site.new_ms.clear()
            for _ in range(BURST):
                site.tell()
            await _until(lambda: len(site.new_ms) >= BURST)
            found["burst"] = [float(BURST - len(site.new_ms))]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        site.store.close()
    return found


def run() -> list[Figure]:
    """Measure."""
    machine = Machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Broker("mosquitto", folder / "broker") as broker:
            machine.look()
            paced = asyncio.run(_measure(_made(folder / "paced"), broker.port, PACE, paced=True))
            fast = asyncio.run(_measure(_made(folder / "fast"), broker.port, 1_000_000, paced=False))
    live, quiet = paced["live"], paced["quiet"]
    lost = paced["lost"][0] + fast["lost"][0]
    return [
        Figure("telemetry.live_p50_ms", statistics.median(live), "ms", len(live), None, statistics.median(quiet)),
        Figure("telemetry.live_p99_ms", percentile(live, 0.99), "ms", len(live), 250, percentile(quiet, 0.99)),
        Figure("telemetry.paced_items_s", paced["rate"][0], "1/s", DAY, PACE * 1.1),
        Figure("telemetry.replay_items_s", fast["rate"][0], "1/s", DAY, 2000, at_least=True),
        Figure("telemetry.replay_lost", lost, "items", 2 * DAY, 0),
        Figure("telemetry.burst_lost", fast["burst"][0], "items", BURST, 0),
        machine.figure(),
    ]
