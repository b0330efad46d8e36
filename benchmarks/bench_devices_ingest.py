"""Readings of 10,000 devices, 10,000 a second, 64 to 256 bytes each, through decryption, window, policy and a consumer.

Directly: devices → listener → enforcement point. Through mosquitto: devices → broker → intake → enforcement point.
`ingest.lost` counts both. Latency is from `send` of the device to the consumer; the baseline of its p99 is that of a
process that does nothing but answer (`bystander`), there and back, asked meanwhile. `ingest.cpu_us_per_msg` is all
processor time of the node's process while it takes them directly, over their number; baseline: AES-256-GCM and the
window of the same frames alone. `ingest.max_msg_s` is what it takes when devices send as fast as they can.

A round lasts 60 s, or what QEDGE_BENCH_SECONDS says.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.broker import Broker
from benchmarks.bystander import Bystander
from benchmarks.gateway_site import Count, Plan, SiteProcess, devices, seconds
from benchmarks.mqtt_load import Load, Sent
from benchmarks.report import Figure, percentile
from qedge_device.frame import Opener, Suite

DEVICES = 10_000
PER_S = 10_000
FRAMES = 20_000
SETTLE_S = 1.0
ASK_S = 0.01


@dataclass(frozen=True)
class Round:
    """One round: what was sent, what was taken, processor seconds of the node, p99 of the bystander."""

    sent: Sent
    count: Count
    cpu_s: float
    bystander_ms: float


def measure(site: SiteProcess, load: Load, per_s: float, round_s: float) -> Round:
    """Send one round and wait until all is taken."""
    others_ms: list[float] = []
    with Bystander() as bystander:
        site.count()  # sorts what came before; what that costs does not belong to the round
        before = site.count()
        load.begin(per_s, round_s)
        while not load.is_done:
            others_ms.append(bystander.ask_ms())
            time.sleep(ASK_S)
        sent = load.end()
        time.sleep(SETTLE_S)
        after = site.count()
    return Round(sent, after, after.cpu_s - before.cpu_s, percentile(others_ms, 0.99))


def direct(round_s: float) -> tuple[Round, float]:
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


def through_broker(round_s: float) -> Round:
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
    paced, full = direct(round_s)
    lost, total = paced.sent.messages - paced.count.num_taken, paced.sent.messages
    taken = paced.count.num_taken
    figures = [
        Figure("ingest.direct_p99_ms", paced.count.p99_ms, "ms", taken, 3.0, paced.bystander_ms),
        Figure("ingest.sent_msg_s", paced.sent.messages / paced.sent.seconds, "1/s", paced.sent.messages),
        Figure("ingest.direct_p50_ms", paced.count.p50_ms, "ms", taken),
        Figure("ingest.cpu_us_per_msg", paced.cpu_s / taken * 1e6, "us", taken, 20.0, bare_us()),
        Figure("ingest.max_msg_s", full, "1/s", round(full), PER_S, at_least=True),
    ]
    if shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists():
        round_ = through_broker(round_s)
        taken = round_.count.num_taken
        lost, total = lost + round_.sent.messages - taken, total + round_.sent.messages
        figures += [
            Figure("ingest.broker_p99_ms", round_.count.p99_ms, "ms", taken, 10.0, round_.bystander_ms),
            Figure("ingest.broker_cpu_us_per_msg", round_.cpu_s / taken * 1e6, "us", taken),
        ]
    return [Figure("ingest.lost", lost, "1", total, 0.0), *figures]
