"""The Sparkplug edge node on a real broker (mosquitto 2.0), through storms of reconnects and rebirths."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.fleet.sparkplug.config import SparkplugConfig
from qedge.fleet.sparkplug.model import DataType, Past, Reading
from qedge.fleet.sparkplug.servers import read_servers
from qedge.fleet.sparkplug.spool import DatabaseSpool
from qedge.store.store import Store
from tests.conformance.sparkplug.edge_site import RULES, FakeReadings, MemoryBdSeq, MemorySpool, make_site, running
from tests.integration.bus_site import MOSQUITTO
from tests.integration.sparkplug_host import BadLine, SparkplugHost, mosquitto
from tests.integration.test_bus_external import write_certificates

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]

NODE = "box-1"


def _readings(devices: int) -> FakeReadings:
    found = FakeReadings()
    found.set("Jobs/Done", 0, 1)
    for number in range(devices):
        found.set("State/Restarts", 0, 1, device=f"d{number}")
    return found


async def _storm(folder: Path, rounds: int, devices: int, seed: int) -> SparkplugHost:
    """Cut the line, ask for births and change values at random; then let it rest and look."""
    rng = random.Random(seed)
    host = SparkplugHost("plant")
    async with mosquitto(folder) as port, host.listening(port), BadLine(port).open() as line:
        site = make_site((line.port,), bd_seq=MemoryBdSeq(250), readings=_readings(devices), sample_s=0.005)
        async with running(site):
            await host.until(lambda: host.count("DBIRTH") >= devices)
            for number in range(rounds):
                if rng.random() < 0.5:
                    line.cut()
                else:
                    await host.ask_rebirth(NODE)
                site.readings.set("Jobs/Done", number + 1, 1000 + number)
                await asyncio.sleep(rng.random() * 0.04)
            site.readings.set("Jobs/Done", 10**6, 10**6)
            await host.until(lambda: site.service.view().state == "online")
            await host.until(lambda: host.alive.get(NODE) == site.service.view().bd_seq)
            await host.until(lambda: _last_value(host) == 10**6)
            births = host.count("DBIRTH")
            await host.ask_rebirth(NODE)
            await host.until(lambda: host.count("DBIRTH") >= births + devices)
        await host.until(lambda: NODE not in host.alive)
    return host


def _last_value(host: SparkplugHost) -> object:
    live = [
        metric.value
        for said in host.said
        if said.verb in ("NBIRTH", "NDATA")
        for metric in said.payload.metrics
        if metric.name == "Jobs/Done" and not metric.historical
    ]
    return live[-1] if live else None


def _check(host: SparkplugHost) -> None:
    """What every host may rely on, whatever happened."""
    births = [said.bd_seq for said in host.said if said.verb == "NBIRTH"]
    steps = {(int(str(after)) - int(str(before))) % 256 for before, after in itertools.pairwise(births)}
    # a connection that breaks before its birth uses a number too
    assert max(steps) <= 10
    deaths = [said.bd_seq for said in host.said if said.verb == "NDEATH"]
    assert len(deaths) == len(set(deaths))
    assert set(births) <= set(deaths)
    running_seq: dict[object, int] = {}
    current: object = None
    for said in host.said:
        if said.verb == "NBIRTH":
            current = said.bd_seq
            assert said.payload.seq == 0
            running_seq[current] = 0
        elif said.verb != "NDEATH":
            running_seq[current] = (running_seq[current] + 1) % 256
            assert said.payload.seq == running_seq[current]


async def test_bd_seq_and_rebirths_are_right_through_a_storm(tmp_path: Path) -> None:
    host = await _storm(tmp_path, rounds=25, devices=5, seed=1)
    _check(host)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(5))
async def test_bd_seq_and_rebirths_are_right_through_a_long_storm(tmp_path: Path, seed: int) -> None:
    host = await _storm(tmp_path, rounds=400, devices=20, seed=seed)
    _check(host)
    assert host.count("NBIRTH") > 50


async def test_the_node_follows_its_primary_host_from_one_real_server_to_the_other(tmp_path: Path) -> None:
    first, second = SparkplugHost("plant"), SparkplugHost("plant")
    async with (
        mosquitto(tmp_path / "a") as port_a,
        mosquitto(tmp_path / "b") as port_b,
        first.listening(port_a),
        second.listening(port_b),
    ):
        await first.state("scada", False, 10)
        await second.state("scada", True, 10)
        spool = MemorySpool()
        rules = replace(RULES, primary_host="scada")
        site = make_site((port_a, port_b), rules, readings=_readings(1), spool=spool)
        async with running(site):
            await second.until(lambda: second.count("DBIRTH") == 1)
            assert first.count("NBIRTH") == 0
            await first.state("scada", True, 20)
            await second.state("scada", False, 20)
            await first.until(lambda: first.count("DBIRTH") == 1)
            await second.until(lambda: NODE not in second.alive)
            assert first.alive[NODE] == 2


async def test_the_connection_goes_through_tls_and_to_nobody_else(tmp_path: Path) -> None:
    write_certificates(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        tls_port: int = probe.getsockname()[1]
    lines = (
        f"listener {tls_port} 127.0.0.1",
        f"cafile {tmp_path}/ca.pem",
        f"certfile {tmp_path}/broker.pem",
        f"keyfile {tmp_path}/broker.key",
        "require_certificate true",
        "user root",
    )
    config = SparkplugConfig(
        servers=(f"mqtts://127.0.0.1:{tls_port}",),
        ca_file=str(tmp_path / "ca.pem"),
        cert_file=str(tmp_path / "node.pem"),
        key_file=str(tmp_path / "node.key"),
    )
    (tmp_path / "other").mkdir()
    write_certificates(tmp_path / "other")
    strange = msgspec.structs.replace(config, ca_file=str(tmp_path / "other" / "ca.pem"))
    host = SparkplugHost("plant")
    async with mosquitto(tmp_path / "broker", *lines) as port, host.listening(port):
        site = make_site((tls_port,), readings=_readings(1), servers=read_servers(strange))
        async with running(site):
            await host.until(lambda: "certificate" in site.service.view().problem.lower())
        assert site.metrics.value("qedge_sparkplug_connects_total") == 0
        site = make_site((tls_port,), readings=_readings(1), servers=read_servers(config))
        async with running(site):
            await host.until(lambda: host.count("DBIRTH") == 1)
        await host.until(lambda: NODE not in host.alive)


async def _replay(folder: Path, rows: int, cuts: int) -> None:
    """Replay from a real database over a line that breaks, and look for every reading, in its order."""
    host = SparkplugHost("plant")
    store = Store(folder / "qedge.sqlite3", metrics=Metrics())
    spool = DatabaseSpool(store, max_rows=10**6, max_age_s=1e9, clock=SystemClock(), metrics=Metrics())
    try:
        for first in range(0, rows, 1000):
            batch = range(first, min(first + 1000, rows))
            await spool.keep([Past("", "Jobs/Done", Reading(DataType.INT64, each, 10**12 + each)) for each in batch])
        async with mosquitto(folder / "broker") as port, host.listening(port), BadLine(port).open() as line:
            rules = replace(RULES, replay_per_s=1e6)
            site = make_site((line.port,), rules, readings=_readings(1), spool=spool)
            async with running(site):
                for number in range(cuts):
                    await host.until(lambda number=number: len(set(_past(host))) > (number + 1) * rows // (cuts + 2))
                    line.cut()
                await host.until(lambda: len(set(_past(host))) == rows, 60)
                while await spool.batch(1):
                    await asyncio.sleep(0.02)
    finally:
        store.close()
    assert list(dict.fromkeys(_past(host))) == list(range(rows))


def _past(host: SparkplugHost) -> list[object]:
    return [
        metric.value
        for said in host.said
        if said.verb == "NDATA"
        for metric in said.payload.metrics
        if metric.historical and metric.name == "Jobs/Done"
    ]


async def test_a_past_in_the_database_arrives_whole_and_in_order_over_a_line_that_breaks(tmp_path: Path) -> None:
    await _replay(tmp_path, rows=3000, cuts=2)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_long_past_in_the_database_arrives_whole_and_in_order_over_a_line_that_breaks(tmp_path: Path) -> None:
    await _replay(tmp_path, rows=40_000, cuts=8)
