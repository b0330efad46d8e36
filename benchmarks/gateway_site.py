"""A process with listener, broker intake and enforcement point, as the daemon has them, for measurements of devices.

`build` is the one place that says what they are made of. Sessions are given instead of negotiated (`FakeSessionBook`),
so that a load process can have the other halves without a handshake; frames, windows and topics are real.
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
from qedge.devices.fake import FOREVER_NS, FakeDevice, FakeDoorman, FakeGreeter, FakeSessionBook, FakeWitness
from qedge.devices.ways_in.config import IntakeConfig, ListenerConfig
from qedge.devices.ways_in.greeting import GreetingDesk
from qedge.devices.ways_in.intake import BrokerIntake
from qedge.devices.ways_in.listener import Listener
from qedge.devices.ways_in.rates import Throttles
from qedge.security.model import Action, Decision, Reason, Resource, ResourceKind, Subject
from qedge.security.ports import Judge

FLEET: Final = "bench"
NODE: Final = "gateway"
SENSOR: Final = "sensor-{:05d}"
CRITICAL: Final = "stop-button"
ACTUATOR: Final = "valve"
TIME: Final = struct.Struct(">Q")
"""Begins every body: when it was sent, on the monotonic clock of this box."""


class TableJudge:
    """A decision table of the shape of the policy engine: lease, forbid, rule by segment and action, trust, time."""

    def __init__(self, rules: dict[tuple[str, Action, ResourceKind, str], tuple[str, int]]) -> None:
        self._rules = rules
        self._allowed = {rule: Decision(True, Reason.ALLOWED, rule) for rule, _ in rules.values()}

    def decide(self, subject: Subject | None, action: Action, resource: Resource, now_ns: int, utc_ns: int) -> Decision:
        """Decide one request."""
        if subject is None:
            return Decision(False, Reason.UNKNOWN)
        if subject.revoked:
            return Decision(False, Reason.REVOKED)
        if subject.quarantined:
            return Decision(False, Reason.QUARANTINED)
        if subject.lease_until_ns < now_ns:
            return Decision(False, Reason.LEASE)
        found = self._rules.get((subject.segment, action, resource.kind, resource.segment))
        if found is None:
            return Decision(False, Reason.NO_RULE)
        rule, trust = found
        if subject.trust < trust:
            return Decision(False, Reason.TRUST, rule)
        return self._allowed[rule]


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
    meter: Meter


@dataclass(frozen=True)
class Plan:
    """How many devices there are, and the port of the broker; 0: without one."""

    num_sensors: int
    broker_port: int = 0


def make_judge() -> Judge:
    """Make the policy engine."""
    rules: dict[tuple[str, Action, ResourceKind, str], tuple[str, int]] = {
        (f"segment-{number}", Action.PUBLISH, ResourceKind.SEGMENT, f"segment-{number}"): (f"publish-{number}", 20)
        for number in range(250)
    }
    rules |= {
        (f"segment-{number}", Action.CONNECT, ResourceKind.NODE, ""): (f"connect-{number}", 10) for number in range(249)
    }
    rules["segment-0", Action.COMMAND, ResourceKind.DEVICE, "segment-0"] = ("stop", 40)
    return TableJudge(rules)


def devices(num_sensors: int) -> tuple[list[FakeDevice], FakeDevice, FakeDevice]:
    """Return the devices' halves of all sessions: sensors, the critical one, and its actuator."""
    names = [SENSOR.format(number) for number in range(num_sensors)]
    made = [FakeDevice(FLEET, NODE, name, number) for number, name in enumerate([*names, CRITICAL, ACTUATOR], 1)]
    return made[:-2], made[-2], made[-1]


def build(plan: Plan) -> Site:
    """Make listener, intake and enforcement point, with a session for each device."""
    clock, metrics = SystemClock(), Metrics()
    book, doorman, meter = FakeSessionBook(FLEET, NODE), FakeDoorman(), Meter()
    for number in range(plan.num_sensors):
        book.open(doorman.add(SENSOR.format(number), segment=f"segment-{number % 249}"))
    book.open(doorman.add(CRITICAL, segment="segment-0", safety=True))
    book.open(doorman.add(ACTUATOR, segment="segment-0", safety=True))
    for subject in doorman.subjects.values():
        subject.lease_until_ns = FOREVER_NS
    enforcement = Enforcement(book, make_judge(), consumers=[meter], witness=FakeWitness(), metrics=metrics)
    desk, throttles = GreetingDesk(FakeGreeter(), metrics=metrics), Throttles(1000.0)
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
    return Site(listener, intake, desk, meter)


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
    tasks = [loop.create_task(site.desk.run(lambda: None)), loop.create_task(site.listener.run(up[0].set))]
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
        times_ms = [each / 1e6 for each in site.meter.times_ns]
        num_taken, site.meter.num_taken = site.meter.num_taken, 0
        site.meter.times_ns = array("Q")
        count = Count(
            num_taken,
            percentile(times_ms, 0.5) if times_ms else 0.0,
            percentile(times_ms, 0.99) if times_ms else 0.0,
            time.process_time(),
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
