"""What a policy decision costs: 20,000 devices, 500 rules, requests of all kinds in random order.

`policy.p50_us`, `policy.p99_us`: one decision, the clock's own cost taken off, each device as often as its neighbour;
the baseline is Cedar with the same rules, its policies and entities parsed beforehand, where `cedarpy` is installed.
`policy.cold_p99_us`: the first decision for a device and a resource, as after each change of a device.
`policy.cpu_us`: processor time of a decision without a clock around it. `policy.reload_ms`: reading and compiling the
document. `policy.kib_per_device`: memory that decisions for one device leave behind. `policy.deny_after_verdict_ms`:
from the verdict on a device to the first decision that denies it, while others are decided.
`policy.cut_after_verdict_ms`: from the operator's `quarantine` at the socket of a daemon to the moment at which the
device sees its connection closed; the verdict is in the audit log by then. Each is the best of three turns, for boxes
that do other things as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from benchmarks.device_crowd import Crowd
from benchmarks.gateway_node import configure, drafts, import_devices
from benchmarks.node import Node
from benchmarks.report import Figure, percentile
from qedge.client.node import NodeClient
from qedge.security.model import Action, Resource, ResourceKind, Subject, SubjectKind
from qedge.security.policy.document import parse_document
from qedge.security.policy.engine import PolicyEngine

DEVICES = 20_000
RULES = 500
SEGMENTS = 25
CLASSES = 40
CHANNELS = 4
REQUESTS = 200_000
TURNS = 3
CEDAR_REQUESTS = 300
VERDICTS = 200
CUTS = 30
UTC_NS = 1_799_064_000_000_000_000
LEASE_NS = 1 << 62

Asked = tuple[Subject, Action, Resource]


def policy_text() -> str:
    """Write a policy as a large site might have it, with trust, times, rates and some forbids."""
    rng = random.Random(1)
    lines = ["version = 1"]
    lines += [f"[segments.s{number}]\nchannels = ['c0', 'c1', 'c2', 'c3']" for number in range(SEGMENTS)]
    for number in range(RULES):
        segments = [f"s{each}" for each in rng.sample(range(SEGMENTS), 5)]
        classes = [f"k{each}" for each in rng.sample(range(CLASSES), 8)]
        lines.append(f"[rules.r{number}]\nsubjects.kinds = ['device']")
        kind = number % 10
        if kind == 9:
            lines += ["effect = 'forbid'\nactions = ['publish']", f"subjects.groups = ['g{number % 30}']"]
            lines += [f"resources = {{ segments = {segments}, channels = ['c3'] }}\nunless = {{ trust = 50 }}"]
            continue
        lines += ["effect = 'permit'", f"subjects.classes = {classes}"]
        if kind == 8:
            lines += ["actions = ['command']\ncrossing = true"]
            lines += [f"resources = {{ segments = {segments}, commands = ['open', 'close'] }}\nwhen.trust = 70"]
        elif kind == 7:
            lines += ["actions = ['connect']\nresources.node = true"]
        else:
            lines += ["actions = ['publish', 'subscribe']"]
            lines += [f"resources = {{ segments = {segments}, channels = ['c{kind % CHANNELS}'] }}"]
            lines += [f"when = {{ trust = {rng.randrange(20, 60)} }}"] if kind < 4 else []
            lines += ["rate = { per_second = 10, burst = 20 }"] if kind in (1, 4) else []
            lines += ["when.time = [{ from = '00:00', until = '20:00' }]"] if kind == 5 else []
    return "\n".join(lines) + "\n"


def devices() -> list[Subject]:
    """Make the devices."""
    rng = random.Random(2)
    return [
        Subject(
            f"d{number}",
            SubjectKind.DEVICE,
            f"k{number % CLASSES}",
            frozenset({f"g{rng.randrange(30)}", f"g{rng.randrange(30)}"}),
            {"floor": str(number % 7)},
            f"s{number % SEGMENTS}",
            trust=rng.randrange(30, 101),
            lease_until_ns=LEASE_NS,
        )
        for number in range(DEVICES)
    ]


def requests(subjects: list[Subject], count: int) -> list[Asked]:
    """Ask for this and that: nine of ten publish, on two channels each as devices do."""
    rng = random.Random(3)
    channels = {
        (segment, name): Resource(ResourceKind.SEGMENT, f"c{name}", f"s{segment}")
        for segment in range(SEGMENTS)
        for name in range(CHANNELS)
    }
    found: list[Asked] = []
    for _ in range(count):
        number = rng.randrange(len(subjects))
        subject, kind = subjects[number], rng.randrange(20)
        if kind == 0:
            found.append((subject, Action.CONNECT, Resource(ResourceKind.NODE)))
        elif kind == 1:
            owner = f"d{rng.randrange(100)}"
            found.append((subject, Action.COMMAND, Resource(ResourceKind.DEVICE, "open", subject.segment, owner)))
        else:
            name = (number + rng.randrange(2)) % CHANNELS
            found.append((subject, Action.PUBLISH, channels[number % SEGMENTS, name]))
    return found


def timed(engine: PolicyEngine, asked: list[Asked], start_ns: int) -> list[float]:
    """Return microseconds of every decision."""
    clock, decide = time.perf_counter_ns, engine.decide
    own_ns = statistics.median(-(clock() - clock()) for _ in range(1001))
    found = []
    for number, (subject, action, resource) in enumerate(asked):
        now_ns = start_ns + number * 100_000
        before = clock()
        decide(subject, action, resource, now_ns, UTC_NS)
        found.append((clock() - before - own_ns) / 1000)
    return found


def cpu_us(engine: PolicyEngine, asked: list[Asked], start_ns: int) -> float:
    """Return microseconds of processor time of one decision, the loop around it taken off."""
    decide = engine.decide

    def measure(work: Callable[[Subject, Action, Resource, int, int], object]) -> float:
        before = time.thread_time_ns()
        for number, (subject, action, resource) in enumerate(asked):
            work(subject, action, resource, start_ns + number * 100_000, UTC_NS)
        return (time.thread_time_ns() - before) / 1000 / len(asked)

    return measure(decide) - measure(lambda *_: None)


def cedar_us(asked: list[Asked]) -> float | None:
    """Return microseconds of a decision of Cedar with the same rules; None: it is not installed."""
    try:
        import cedarpy

        from tests.unit.security.policy.cedar_oracle import translate
    except ImportError:
        return None
    policies = cedarpy.PolicySet.from_str(translate(parse_document(policy_text().encode())))
    entities, questions = {}, []
    for subject, action, resource in asked[:CEDAR_REQUESTS]:
        name = f"{resource.segment}/{resource.owner}/{resource.name}"
        kind = {"node": "Node", "device": "Actuator", "segment": "Channel"}[resource.kind.value]
        uids = {"type": "Device", "id": subject.id}, {"type": kind, "id": name}
        entities["d" + subject.id] = {
            "uid": uids[0],
            "attrs": {
                "name": subject.id,
                "class": subject.device_class,
                "segment": subject.segment,
                "attributes": dict(subject.attributes),
                "location": "",
                "posture": [],
                "trust": subject.trust,
                "qkd": False,
                "revoked": False,
                "quarantined": False,
            },
            "parents": [{"type": "Group", "id": each} for each in subject.groups],
        }
        attrs = {"name": resource.name, "segment": resource.segment, "owner": resource.owner}
        entities["r" + name] = {"uid": uids[1], "attrs": attrs, "parents": []}
        context = {"stage": 7, "tokens": [f"r{n}" for n in range(3)], "clocks": {"UTC": {"day": "mon", "minute": 720}}}
        questions.append(
            {"principal": uids[0], "action": f'Action::"{action}"', "resource": uids[1], "context": context}
        )
    parsed = cedarpy.Entities.from_json_str(json.dumps(list(entities.values())))
    found = []
    for question in questions:
        before = time.perf_counter_ns()
        cedarpy.is_authorized(question, policies, parsed)
        found.append((time.perf_counter_ns() - before) / 1000)
    return statistics.median(found)


def deny_after_verdict_ms(engine: PolicyEngine, subjects: list[Subject], asked: list[Asked]) -> list[float]:
    """Quarantine one device after the other while others are decided; returns milliseconds until each is denied."""
    channel, found = Resource(ResourceKind.SEGMENT, "c0", "s0"), []
    for number in range(VERDICTS):
        subject = subjects[number]
        engine.decide(subject, Action.PUBLISH, channel, 0, UTC_NS)
        before = time.perf_counter_ns()
        subject.quarantined, subject.epoch = True, subject.epoch + 1
        for other in asked[number : number + 10]:  # what is in the way already
            engine.decide(*other, 0, UTC_NS)
        assert engine.decide(subject, Action.PUBLISH, channel, 0, UTC_NS).reason == "quarantined"
        found.append((time.perf_counter_ns() - before) / 1e6)
        subject.quarantined, subject.epoch = False, subject.epoch + 1
    return found


async def _cut(node: Node, crowd: Crowd) -> list[float]:
    loop, found = asyncio.get_running_loop(), []
    async with NodeClient(node.socket) as client:
        await client.status()
        for member in crowd.members:
            assert member.sock is not None
            started = time.perf_counter()
            asked = asyncio.create_task(client.devices.quarantine(member.device.username, "measured"))
            with contextlib.suppress(ConnectionResetError):
                while await loop.sock_recv(member.sock, 4096):
                    pass
            found.append((time.perf_counter() - started) * 1e3)
            await asked
    return found


def cut_after_verdict_ms() -> list[list[float]]:
    """Quarantine connected devices one after the other; returns milliseconds until each was cut off, by turns."""
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as folder:
        home = Path(folder) / "n"
        with Node(home, configure(home)) as node:
            lines, port = asyncio.run(import_devices(node, drafts(TURNS * CUTS)))
            turns = [Crowd(lines[start : start + CUTS], port, start) for start in range(0, len(lines), CUTS)]
            found = []
            for crowd in turns:
                if crowd.connect(CUTS, 60.0, CUTS).open < CUTS:
                    raise RuntimeError("not all devices were let in")
                found.append(asyncio.run(_cut(node, crowd)))
            return found


def kib_per_device(subjects: list[Subject], asked: list[Asked]) -> float:
    """Return what a policy in use holds for each device."""
    engine = PolicyEngine()
    engine.load(policy_text().encode())
    gc.collect()
    tracemalloc.start()
    for number, each in enumerate(asked):
        engine.decide(*each, number, UTC_NS)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / 1024 / len(subjects)


def run() -> list[Figure]:
    """Measure."""
    text, subjects = policy_text().encode(), devices()
    asked = requests(subjects, REQUESTS)
    reloads_ms, cold, warm, cpu = [], [], [], []
    for turn in range(TURNS):
        engine = PolicyEngine()
        before = time.thread_time_ns()
        engine.load(text)
        reloads_ms.append((time.thread_time_ns() - before) / 1e6)
        gc.collect()
        cold.append(timed(engine, asked[:DEVICES], 0))
        timed(engine, asked, 100 * 10**9)
        warm.append(timed(engine, asked, (turn + 1) * 1000 * 10**9))
        cpu.append(cpu_us(engine, asked, (turn + 1) * 2000 * 10**9))
    p50 = min(percentile(each, 0.5) for each in warm)
    p99 = min(percentile(each, 0.99) for each in warm)
    verdicts = [deny_after_verdict_ms(engine, subjects, asked) for _ in range(TURNS)]
    return [
        Figure("policy.p50_us", p50, "us", REQUESTS * TURNS, 5, cedar_us(asked)),
        Figure("policy.p99_us", p99, "us", REQUESTS * TURNS, 50),
        Figure("policy.cold_p99_us", min(percentile(each, 0.99) for each in cold), "us", DEVICES * TURNS, 100),
        Figure("policy.cpu_us", min(cpu), "us", REQUESTS * TURNS),
        Figure("policy.reload_ms", min(reloads_ms), "ms", TURNS),
        Figure("policy.kib_per_device", kib_per_device(subjects, asked), "KiB", DEVICES, 2),
        Figure(
            "policy.deny_after_verdict_ms",
            min(percentile(each, 0.99) for each in verdicts),
            "ms",
            VERDICTS * TURNS,
            5,
        ),
        Figure(
            "policy.cut_after_verdict_ms",
            min(percentile(each, 0.99) for each in cut_after_verdict_ms()),
            "ms",
            CUTS * TURNS,
            50,
        ),
    ]
