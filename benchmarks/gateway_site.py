"""A process with listener, broker intake and enforcement point, as the daemon has them, for measurements of devices.

`build` is the one place that says what they are made of: sessions in the daemon's book, the policy engine with 500
rules, segments as the consumer. Only the handshakes are left out (`FakeDoorman`, keys that both ends derive from the
name), so that a load process can have the other halves of 10,000 sessions at once; `devices-scale` has them.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import random
import resource
import struct
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final

import uvloop

from benchmarks.report import percentile
from qedge.base.log import LogConfig, configure
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.model import Endpoint
from qedge.devices.enforcement import Enforcement
from qedge.devices.fake import FOREVER_NS, FakeDevice, FakeDoorman, FakeGreeter, FakeWitness
from qedge.devices.model import DeviceSession, DeviceTier
from qedge.devices.segments.config import GroupKeyConfig, SegmentConfig
from qedge.devices.segments.fake import FakeDownlink, FakeKeep, FakeOnward, FakeSegmentBus, FakeSubjects
from qedge.devices.segments.service import SegmentService
from qedge.devices.sessions.book import DeviceSessions
from qedge.devices.ways_in.config import IntakeConfig, ListenerConfig
from qedge.devices.ways_in.greeting import GreetingDesk
from qedge.devices.ways_in.intake import BrokerIntake
from qedge.devices.ways_in.listener import Listener
from qedge.devices.ways_in.pace import Pace
from qedge.devices.ways_in.rates import Throttles
from qedge.security.model import Subject
from qedge.security.policy.engine import PolicyEngine
from qedge_device.frame import Opener, Sealer, Suite

FLEET: Final = "bench"
NODE: Final = "gateway"
SENSOR: Final = "sensor-{:05d}"
CRITICAL: Final = "stop-button"
ACTUATOR: Final = "valve"
SEGMENTS: Final = 249
WINDOW: Final = 256
TIME: Final = struct.Struct(">Q")
"""Begins every body: when it was sent, on the monotonic clock of this box."""


class Meter:
    """The consumer: notes how long each reading was under way, and hands critical ones on as commands."""

    def __init__(self) -> None:
        self.num_taken = 0
        self.times_ns = array("Q")
        self.command: Callable[[Subject, bytes, int], None] = lambda subject, body, now_ns: None

    def take(self, subject: Subject, channel: str, body: bytes, now_ns: int) -> None:
        """Take one reading."""
        if channel == "stop":
            self.command(subject, body, now_ns)
            return
        self.num_taken += 1
        self.times_ns.append(time.monotonic_ns() - TIME.unpack_from(body)[0])


@dataclass(frozen=True)
class Site:
    """What runs in the process."""

    listener: Listener
    intake: BrokerIntake | None
    desk: GreetingDesk
    segments: SegmentService
    meter: Meter


@dataclass(frozen=True)
class Plan:
    """How many devices there are, and the port of the broker; 0: without one."""

    num_sensors: int
    broker_port: int = 0


def policy_text() -> str:
    """Write a policy of 500 rules: one of each segment to publish, some with a time or a rate, one to connect."""
    lines = ["version = 1"]
    for number in range(SEGMENTS):
        name = f"segment-{number}"
        subjects = f"subjects = {{ kinds = ['device'], segments = ['{name}'] }}\neffect = 'permit'"
        lines += [f"[segments.{name}]\nchannels = ['t', 'stop']"]
        lines += [f"[rules.connect-{number}]\n{subjects}\nactions = ['connect']\nresources.node = true"]
        lines += [f"[rules.publish-{number}]\n{subjects}\nactions = ['publish']"]
        lines += [f"resources = {{ segments = ['{name}'], channels = ['t', 'stop'] }}\nwhen.trust = 20"]
        lines += ["when.time = [{ from = '00:00', until = '24:00' }]"] if number % 5 == 1 else []
        lines += ["rate = { per_second = 500, burst = 1000 }"] if number % 5 == 2 else []
    lines += [f"[rules.stop]\nsubjects = {{ kinds = ['device'], ids = ['{CRITICAL}'] }}\neffect = 'permit'"]
    lines += [
        f"actions = ['command']\nresources = {{ devices = ['{ACTUATOR}'], commands = ['close'] }}\nwhen.trust = 40"
    ]
    lines += ["[rules.never]\nsubjects = { kinds = ['device'], classes = ['visitor'] }\neffect = 'forbid'"]
    lines += ["actions = ['command']\nresources = { segments = ['segment-1'], commands = ['close'] }"]
    return "\n".join(lines) + "\n"


def devices(num_sensors: int) -> tuple[list[FakeDevice], FakeDevice, FakeDevice]:
    """Return the devices' halves of all sessions: sensors, the critical one, and its actuator."""
    names = [SENSOR.format(number) for number in range(num_sensors)]
    made = [FakeDevice(FLEET, NODE, name, number) for number, name in enumerate([*names, CRITICAL, ACTUATOR], 1)]
    return made[:-2], made[-2], made[-1]


def build(plan: Plan) -> Site:
    """Make listener, intake and enforcement point, with a session for each device."""
    clock, metrics = SystemClock(), Metrics()
    book, doorman, meter, engine = DeviceSessions(), FakeDoorman(), Meter(), PolicyEngine()
    engine.load(policy_text().encode())
    sensors, critical, actuator = devices(plan.num_sensors)
    names = [f"segment-{number}" for number in range(SEGMENTS)]
    for number, device in enumerate(sensors):
        book.add(_session(device, doorman.add(device.name, segment=names[number % SEGMENTS])))
    for device in (critical, actuator):
        book.add(_session(device, doorman.add(device.name, segment="segment-0", safety=True)))
    segments = _segments(engine, clock, metrics)
    enforcement = Enforcement(book, engine, consumers=[segments, meter], witness=FakeWitness(), metrics=metrics)
    pace, throttles = Pace(clock), Throttles(1000.0)
    desk = GreetingDesk(FakeGreeter(), pace=pace, metrics=metrics)
    config = ListenerConfig(
        listen=("127.0.0.1:0",), connects_per_s=5000, address_connects_per_s=5000, max_connections_per_address=20_000
    )
    listener = Listener(
        config,
        fleet=FLEET,
        node=NODE,
        enforcement=enforcement,
        doorman=doorman,
        desk=desk,
        pace=pace,
        throttles=throttles,
        clock=clock,
        metrics=metrics,
    )
    intake = None
    if plan.broker_port:
        endpoint = Endpoint("127.0.0.1", plan.broker_port, "bench")
        intake = BrokerIntake(
            IntakeConfig(),
            lambda: endpoint,
            fleet=FLEET,
            node=NODE,
            enforcement=enforcement,
            desk=desk,
            throttles=throttles,
            clock=clock,
            metrics=metrics,
            uniform=random.random,
            between=listener.lanes.serve_urgent,
        )
    enforcement.connect([listener])

    def command(subject: Subject, body: bytes, now_ns: int) -> None:
        enforcement.down(subject, ACTUATOR, "close", body, now_ns, clock.utc_ns())

    meter.command = command
    return Site(listener, intake, desk, segments, meter)


def _session(device: FakeDevice, subject: Subject) -> DeviceSession:
    """Open a session that was never negotiated."""
    subject.lease_until_ns = FOREVER_NS
    return DeviceSession(
        subject,
        DeviceTier.RICH,
        device.key_id,
        Opener(Suite.AES_256_GCM, *device.keys[0], device.key_id, WINDOW),
        Sealer(Suite.AES_256_GCM, *device.keys[1], device.key_id),
        device.up_topic,
        device.down_topic,
        0,
        FOREVER_NS,
    )


def _segments(engine: PolicyEngine, clock: SystemClock, metrics: Metrics) -> SegmentService:
    return SegmentService(
        FLEET,
        NODE,
        {f"segment-{number}": SegmentConfig(("t", "stop")) for number in range(SEGMENTS)},
        GroupKeyConfig(),
        judge=engine,
        subjects=FakeSubjects(),
        downlink=FakeDownlink(),
        bus=FakeSegmentBus(),
        keep=FakeKeep(),
        onward=FakeOnward(),
        clock=clock,
        metrics=metrics,
        random_bytes=os.urandom,
    )


@dataclass(frozen=True)
class Count:
    """What the site says of itself: readings since the last question, their times, its processor time in all."""

    num_taken: int
    p50_ms: float
    p99_ms: float
    cpu_s: float
    connections: int


def serve(plan: Plan, pipe: Connection) -> None:
    """Run a site until the pipe closes; every message in the pipe is answered with a `Count`."""
    configure(LogConfig(level="error"))
    uvloop.run(_serve(plan, pipe))


async def _serve(plan: Plan, pipe: Connection) -> None:
    site = build(plan)
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    up = [asyncio.Event(), asyncio.Event()]
    tasks = [
        loop.create_task(site.desk.run(lambda: None)),
        loop.create_task(site.segments.run(lambda: None)),
        loop.create_task(site.listener.run(up[0].set)),
    ]
    if site.intake is not None:
        tasks.append(loop.create_task(site.intake.run(up[1].set)))
        await up[1].wait()
    await up[0].wait()
    gc.collect()
    gc.freeze()  # as the daemon does once it is up

    def answer() -> None:
        try:
            pipe.recv()
        except EOFError:
            stopped.set()
            return
        cpu_s = time.process_time()  # before the sorting
        times_ms = [each / 1e6 for each in site.meter.times_ns]
        num_taken, site.meter.num_taken = site.meter.num_taken, 0
        site.meter.times_ns = array("Q")
        count = Count(
            num_taken,
            percentile(times_ms, 0.5) if times_ms else 0.0,
            percentile(times_ms, 0.99) if times_ms else 0.0,
            cpu_s,
            site.listener.view().connections,
        )
        pipe.send(count)

    loop.add_reader(pipe.fileno(), answer)
    pipe.send(int(site.listener.view().addresses[0].rsplit(":", 1)[1]))
    await stopped.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class SiteProcess:
    """The process of a site."""

    def __init__(self, plan: Plan) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._plan = plan
        self._process: BaseProcess | None = None
        self.port = 0

    def __enter__(self) -> SiteProcess:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(self._plan, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.port = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        if self._process is not None:
            self._process.join(10)
            if self._process.exitcode is None:
                self._process.kill()

    def count(self) -> Count:
        """Ask what was taken since the last question."""
        self._pipe.send(None)
        count: Count = self._pipe.recv()
        return count


def seconds(default: float) -> float:
    """Return how long a round lasts: `default`, or what QEDGE_BENCH_SECONDS says."""
    return float(os.environ.get("QEDGE_BENCH_SECONDS", default))
