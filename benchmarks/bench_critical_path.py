"""A safety device's word, through policy, to its actuator, while 10,000 others send 10,000 readings a second.

The button and the valve are one process with plain blocking sockets; time is from `send` of the sealed reading to the
opened command. `critical.p99_ms` has as its baseline that of a process that does nothing but answer (`bystander`),
asked in between: the same wake-ups and ways. `critical.alone_p99_ms` is the same with nobody else sending.

A round lasts 30 s, or what QEDGE_BENCH_SECONDS says.
"""

from __future__ import annotations

import random
import socket
import statistics
import time

from benchmarks.bystander import Bystander
from benchmarks.gateway_site import TIME, Plan, SiteProcess, devices, seconds
from benchmarks.mqtt_load import Load, Sensor, connect_packet, subscribe_packet
from benchmarks.report import Figure, percentile
from qedge.devices.fake import FakeDevice

DEVICES = 10_000
PER_S = 10_000
STOPS_PER_S = 100


def attach(device: FakeDevice, port: int) -> Sensor:
    """Connect one device on a blocking socket."""
    sensor = Sensor(device)
    sensor.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sensor.sock.connect(("127.0.0.1", port))
    sensor.sock.send(connect_packet(device))
    if sensor.sock.recv(4) != b"\x20\x02\x00\x00":
        raise RuntimeError(f"{device.name} was not let in")
    return sensor


def press(button: Sensor, valve: Sensor, bystander: Bystander, round_s: float) -> tuple[list[float], list[float]]:
    """Press again and again; returns microseconds until the valve knew, and until the bystander answered."""
    times_us: list[float] = []
    others_us: list[float] = []
    size_of_head = len(valve.device.down_topic) + 4
    ends = time.monotonic() + round_s
    while time.monotonic() < ends:
        time.sleep(random.uniform(0.1, 0.9) / STOPS_PER_S)
        others_us.append(bystander.ask_ms() * 1e3)
        time.sleep(random.uniform(0.1, 0.9) / STOPS_PER_S)
        button.publish("stop", 80)
        packet = valve.sock.recv(4096)
        now_ns = time.monotonic_ns()
        body_at = size_of_head + (1 if packet[1] > 127 else 0)
        _command, body = valve.device.open(packet[body_at:])
        times_us.append((now_ns - TIME.unpack_from(body)[0]) / 1e3)
    return times_us, others_us


def run() -> list[Figure]:
    """Measure."""
    round_s = seconds(30.0)
    _, critical, actuator = devices(DEVICES)
    with SiteProcess(Plan(DEVICES)) as site, Bystander() as bystander:
        button, valve = attach(critical, site.port), attach(actuator, site.port)
        valve.sock.send(subscribe_packet(actuator.down_topic))
        valve.sock.recv(16)
        with Load(DEVICES, site.port) as load:
            press(button, valve, bystander, 1.0)
            alone, _ = press(button, valve, bystander, round_s / 3)
            load.begin(PER_S, round_s + 2.0)
            time.sleep(1.0)
            busy, others = press(button, valve, bystander, round_s)
            load.end()
    return [
        Figure("critical.p99_ms", percentile(busy, 0.99) / 1e3, "ms", len(busy), 1.0, percentile(others, 0.99) / 1e3),
        Figure("critical.alone_p99_ms", percentile(alone, 0.99) / 1e3, "ms", len(alone)),
        Figure("critical.p50_us", statistics.median(busy), "us", len(busy), None, statistics.median(others)),
    ]
