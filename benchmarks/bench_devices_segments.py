"""Segments of 10,000 members and the way upstream: cost of keys, of readings, and of the disk.

CPU time of the thread or process, minima of the rounds (the machine is shared). `segments.rekey_cpu_s_10k`: a leave,
and a new key to each of the 10,000 that stay, each sealed in a session of its own as for a device (`qedge_device`).
`segments.join_cpu_us`: a member that joins. `segments.take_us`: one reading through `take` to a feed and to the bus
with its share of sealing and posting, 64 bytes; `segments.take_bare_us` where nobody listens. `onward.put_us`,
`onward.append_rows_s` and `onward.drain_rows_s` are of 64-byte readings of 10,000 devices, the latter two by the clock
on the disk of this machine, and `onward.cpu_us_per_row` is what append and drain cost the process together.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from benchmarks.report import Figure
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.devices.onward.config import OnwardConfig
from qedge.devices.onward.service import OnwardService
from qedge.devices.segments.config import GroupKeyConfig, SegmentConfig
from qedge.devices.segments.fake import FakeDownlink, FakeJudge, FakeKeep, FakeOnward, FakeSegmentBus, FakeSubjects
from qedge.devices.segments.membership import Membership
from qedge.devices.segments.model import FOREVER, MemberId, Pace, RetentionClass
from qedge.devices.segments.service import SegmentService
from qedge.security.model import Action, Subject, SubjectKind
from qedge.store.spool_schemas import SPOOL_SCHEMA
from qedge.store.store import Store
from qedge.wire.attached import pack_reading
from qedge.wire.segments import OnwardReadings
from qedge_device.frame import Sealer, Suite
from qedge_device.group import GroupKey, pack_group_key

MEMBERS = 10_000
ROUNDS = 5
READINGS = 20_000
ROWS = 100_000
BODY = bytes(64)


def run() -> list[Figure]:
    """Measure."""
    rekey, join = _keys()
    take, bare = asyncio.run(_readings())
    put, append, drain, cpu = asyncio.run(_spool())
    return [
        Figure("segments.rekey_cpu_s_10k", rekey, "s", ROUNDS, 1.0),
        Figure("segments.join_cpu_us", join, "us", ROUNDS),
        Figure("segments.take_us", take, "us", ROUNDS),
        Figure("segments.take_bare_us", bare, "us", ROUNDS),
        Figure("onward.put_us", put, "us", ROUNDS),
        Figure("onward.append_rows_s", append, "1/s", ROUNDS, 10_000, at_least=True),
        Figure("onward.drain_rows_s", drain, "1/s", ROUNDS),
        Figure("onward.cpu_us_per_row", cpu, "us", ROUNDS),
    ]


def _keys() -> tuple[float, float]:
    group = Membership("qedge/v1/f/n/seg/plant", 0, Pace(0, 0), os.urandom)
    group.extend(1 << 20, 0)
    sessions = [Sealer(Suite.AES_256_GCM, os.urandom(32), bytes(12), number) for number in range(MEMBERS + ROUNDS)]
    topics = [f"qedge/v1/f/n/dev/d{number}/down" for number in range(MEMBERS + ROUNDS)]
    began = time.thread_time()
    for number in range(MEMBERS + ROUNDS):
        group.join(MemberId(SubjectKind.DEVICE, f"d{number}"), ("level",), 0)
    group.on_timer(0)
    group.handovers(0, MEMBERS * 2)
    join = (time.thread_time() - began) / MEMBERS * 1e6
    spent: list[float] = []
    for round_ in range(ROUNDS):
        began = time.thread_time()
        group.leave(MemberId(SubjectKind.DEVICE, f"d{MEMBERS + round_}"), 0)
        handed = 0
        while due := group.handovers(0, 256):
            for each in due:
                number = int(each.member.id[1:])
                body = pack_group_key(GroupKey("plant", each.epoch, each.secrets))
                sessions[number].seal(pack_reading("_key", body), topics[number])
            handed += len(due)
        spent.append(time.thread_time() - began)
        if handed < MEMBERS:
            raise RuntimeError(f"{handed} members were served")
    return min(spent), join


async def _readings() -> tuple[float, float]:
    subjects = FakeSubjects(
        Subject("app", SubjectKind.APP, lease_until_ns=FOREVER),
        Subject("d", SubjectKind.DEVICE, segment="plant", lease_until_ns=FOREVER),
    )
    bus = FakeSegmentBus()
    service = SegmentService(
        "f",
        "n",
        {"plant": SegmentConfig(("level",), apps=("app",))},
        GroupKeyConfig(join_window_ms=0, feed_readings=READINGS * 2),
        judge=FakeJudge(("*", Action.SUBSCRIBE, "*")),
        subjects=subjects,
        downlink=FakeDownlink(),
        bus=bus,
        keep=FakeKeep(),
        onward=FakeOnward(),
        clock=SystemClock(),
        metrics=Metrics(),
        random_bytes=os.urandom,
    )
    ready = asyncio.Event()
    task = asyncio.create_task(service.run(ready.set))
    await ready.wait()
    device = subjects.known[SubjectKind.DEVICE, "d"]
    clock = SystemClock()

    async def spend() -> float:
        began = time.thread_time()
        for start in range(0, READINGS, 200):  # 10,000 readings a second in slices of the batch window
            for _ in range(start, start + 200):
                service.take(device, "level", BODY, clock.now_ns())
            await asyncio.sleep(0.02)
        return (time.thread_time() - began) / READINGS * 1e6

    bare = min([await spend() for _ in range(ROUNDS)])
    taken: list[float] = []
    service.subscribe(device, "plant")
    for _ in range(ROUNDS):
        feed = service.open_feed("app", "plant")
        taken.append(await spend())
        feed.close()
        bus.posted.clear()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return min(taken), bare


class _Upstream:
    is_up = False

    async def send(self, readings: OnwardReadings) -> None:
        await asyncio.sleep(0)


async def _spool() -> tuple[float, float, float, float]:
    puts, appends, drains, spent = [], [], [], []
    names = [f"device-{number}" for number in range(MEMBERS)]
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "spool.sqlite3", metrics=Metrics(), schema=SPOOL_SCHEMA)
            uplink = _Upstream()
            config = OnwardConfig(replay_per_s=1_000_000, queue_readings=ROWS)
            onward = OnwardService(config, store, uplink, clock=SystemClock(), metrics=Metrics())
            ready = asyncio.Event()
            task = asyncio.create_task(onward.run(ready.set))
            await ready.wait()
            cpu, began, own = time.process_time(), time.perf_counter(), time.thread_time()
            for number in range(ROWS):
                onward.put(names[number % MEMBERS], "plant", "level", RetentionClass.TELEMETRY, number, BODY)
            puts.append((time.thread_time() - own) / ROWS * 1e6)
            await onward.settled()
            appends.append(ROWS / (time.perf_counter() - began))
            began = time.perf_counter()
            uplink.is_up = True
            while onward.view().waiting:  # noqa: ASYNC110 - looked at from outside, as an operator does
                await asyncio.sleep(0.02)
            drains.append(ROWS / (time.perf_counter() - began))
            spent.append((time.process_time() - cpu) / ROWS * 1e6)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            store.close()
    return min(puts), max(appends), max(drains), min(spent)
