"""Readings of 10,000 devices, 10,000 a second, 64 to 256 bytes each, through decryption, window, policy and a consumer.

Directly: devices → listener → enforcement point. Through mosquitto: devices → broker → intake → enforcement point.
`ingest.lost` counts both. Latency is from `send` of the device to the consumer. `ingest.cpu_us_per_msg` is all
processor time of the node's process while it takes them directly, over their number; baseline: AES-256-GCM and the
window of the same frames alone. `ingest.max_msg_s` is what it takes when devices send as fast as they can.

A round lasts 60 s, or what QEDGE_BENCH_SECONDS says.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.broker import Broker
from benchmarks.gateway_site import Count, Plan, SiteProcess, devices, seconds
from benchmarks.mqtt_load import Load, Sent
from benchmarks.report import Figure
from qedge_device.frame import Opener, Suite

DEVICES = 10_000
PER_S = 10_000
FRAMES = 20_000
SETTLE_S = 1.0


def measure(site: SiteProcess, load: Load, per_s: float, round_s: float) -> tuple[Sent, Count, float]:
    """Send one round and wait until all is taken; returns the processor seconds of the node, too."""
    before = site.count()
    sent = load.send(per_s, round_s)
    time.sleep(SETTLE_S)
    after = site.count()
    return sent, after, after.cpu_s - before.cpu_s


def direct(round_s: float) -> tuple[tuple[Sent, Count, float], float]:
    """Measure the listener; returns the round at the pace, and messages a second at full speed."""
    with SiteProcess(Plan(DEVICES)) as site, Load(DEVICES, site.port) as load:
        load.send(PER_S, 2.0)
        time.sleep(SETTLE_S)
        paced = measure(site, load, PER_S, round_s)
        load.begin(0, min(round_s, 10.0))
        time.sleep(1.0)
        site.count()
        started = time.monotonic()
        time.sleep(min(round_s, 10.0) / 2)
        num_taken = site.count().num_taken
        full = num_taken / (time.monotonic() - started)
        load.end()
        return paced, full


def through_broker(round_s: float) -> tuple[Sent, Count, float]:
    """Measure the intake behind mosquitto."""
    with (
        tempfile.TemporaryDirectory(prefix="qedge-bench-") as name,
        Broker("mosquitto", Path(name)) as broker,
        SiteProcess(Plan(DEVICES, broker.port)) as site,
        Load(DEVICES, broker.port) as load,
    ):
        load.send(PER_S, 2.0)
        time.sleep(SETTLE_S)
        return measure(site, load, PER_S, round_s)


def bare_us() -> float:
    """Return the microseconds that opening one of the same frames takes, window included."""
    device = devices(1)[0][0]
    frames = [device.seal("t", os.urandom(140)) for _ in range(FRAMES)]
    opener = Opener(Suite.AES_256_GCM, *device.keys[0], device.key_id, 256)
    started = time.process_time()
    for frame in frames:
        opener.open(frame, device.up_topic)
    return (time.process_time() - started) / FRAMES * 1e6


def run() -> list[Figure]:
    """Measure; without mosquitto the figures of that way are left out."""
    round_s = seconds(60.0)
    (sent, count, cpu_s), full = direct(round_s)
    lost, total = sent.messages - count.num_taken, sent.messages
    figures = [
        Figure("ingest.direct_p99_ms", count.p99_ms, "ms", count.num_taken, 3.0, count.p50_ms),
        Figure("ingest.cpu_us_per_msg", cpu_s / count.num_taken * 1e6, "us", count.num_taken, 20.0, bare_us()),
        Figure("ingest.max_msg_s", full, "1/s", round(full), PER_S, at_least=True),
    ]
    if shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists():
        sent, count, cpu_s = through_broker(round_s)
        lost, total = lost + sent.messages - count.num_taken, total + sent.messages
        figures += [
            Figure("ingest.broker_p99_ms", count.p99_ms, "ms", count.num_taken, 10.0, count.p50_ms),
            Figure("ingest.broker_cpu_us_per_msg", cpu_s / count.num_taken * 1e6, "us", count.num_taken),
        ]
    return [Figure("ingest.lost", lost, "1", total, 0.0), *figures]
