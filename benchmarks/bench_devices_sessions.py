"""What sessions of attached devices cost the node, in processor time of its own code: no sockets, no database.

`devices.full_us`: CHALLENGE and OPENED of a rich device with ML-DSA-44; `devices.resumed_us` and `devices.joined_us`:
a resumption, a join. `devices.enrol_ms`: an enrolment with certificate and signatures. `devices.rotate_all_cpu_s_10k`:
seconds of processor for 10,000 devices, half of them rich, that all make new keys: a full session each with a new
certificate for the rich, a join for the others; extrapolated from what was measured. `devices.session_kib`: memory of a
rich device's record and session after its first frame (resident memory of the process). Both ends run in this process;
only the node's end is counted.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

import psutil

from benchmarks.report import Figure
from qedge.base.ids import RandomBytes
from qedge.devices.enrolment import vetting
from qedge.devices.enrolment.authority import device_public_key
from qedge.devices.model import DeviceTier
from qedge.devices.sessions.full import Nonces, Proof, challenge, open_full
from qedge.devices.sessions.symmetric import check_join, check_resume, join_session, resume_session
from qedge.wire.gateway import DeviceProfile
from qedge_device import schedule
from qedge_device.constrained import ConstrainedDevice
from qedge_device.enrolling import Enrol
from qedge_device.frame import Sealer, Suite
from qedge_device.messages import Join, Prove, Resume
from qedge_device.rich import RichDevice
from tests.unit.devices.device_site import Site, site

T = TypeVar("T")
SAMPLES = 200
DEVICES = 10_000
HELD = 5_000


@dataclass(frozen=True, slots=True)
class Costs:
    """Processor time of the node for one device, in seconds: the median of the samples."""

    full: float
    resumed: float
    joined: float
    enrolled: float
    certificate: float


def measure(samples: int = SAMPLES) -> Costs:
    """Measure handshakes of one device after the other; returns what each kind costs the node."""
    return asyncio.run(_measure(samples))


async def _measure(samples: int) -> Costs:
    with tempfile.TemporaryDirectory() as folder:
        async with site(Path(folder)) as here:
            device, tag = await here.opened(), await here.constrained()
            full = [_full(here, device) for _ in range(samples)]
            resumed = [_resumed(here, device) for _ in range(samples)]
            joined = [_joined(here, tag) for _ in range(samples)]
            enrolled = [await _enrolled(here, number) for number in range(samples // 4)]
            public_key = device_public_key(44, device.public_key)
            random_bytes = here.world.random_bytes
            certified = [
                _timed(
                    lambda: here.devices.authority.certify(
                        "meter-1", public_key, here.clock.utc_ns(), 7_776_000, random_bytes
                    )
                )[0]
                for _ in range(samples // 4)
            ]
    return Costs(median(full), median(resumed), median(joined), median(enrolled), sum(certified) / len(certified))


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.thread_time()
    made = work()
    return time.thread_time() - started, made


def _full(here: Site, device: RichDevice) -> float:
    """Time CHALLENGE and OPENED; the device's part is not counted."""
    devices = here.devices
    nonces = Nonces(bytes(32))
    device.forget_session()
    ask = device.hello()
    now_ns = here.clock.now_ns()
    first_s, answer = _timed(lambda: challenge(devices.place, devices.authority, nonces, "meter-1", ask, now_ns))
    message = device.receive(answer, here.now_s())
    assert message is not None
    record = devices.registry.require("meter-1")
    half = here.world.random_bytes(32)

    def prove() -> bytes:
        prove = Prove.read(message)
        nonces.check("meter-1", prove, now_ns)
        proof = Proof(message, prove, record.subject, 44, device.public_key, b"")
        opened = open_full(devices.place, devices.authority, proof, 7, half, b"", now_ns, 86_400)
        devices.sessions.add(opened.session)
        return opened.message

    second_s, welcome = _timed(prove)
    device.receive(welcome, here.now_s())
    record.resumption = device.kept.resumption
    return first_s + second_s


def _resumed(here: Site, device: RichDevice) -> float:
    """Time RESUMED."""
    devices = here.devices
    hello = device.hello()
    record = devices.registry.require("meter-1")

    def resume() -> bytes:
        resume = Resume.read(hello)
        assert resume.ticket == schedule.ticket_of(record.resumption)
        check_resume(devices.place, "meter-1", record.resumption, resume)
        nonce = here.world.random_bytes(32)
        now_ns = here.clock.now_ns()
        opened = resume_session(devices.place, record.subject, record.resumption, b"", resume, 9, nonce, now_ns, 86_400)
        devices.sessions.add(opened.session)
        return opened.message

    seconds, welcome = _timed(resume)
    device.receive(welcome, here.now_s())
    return seconds


def _joined(here: Site, tag: ConstrainedDevice) -> float:
    """Time JOINED."""
    devices = here.devices
    hello = tag.hello()
    record = devices.registry.require("tag-1")

    def join() -> bytes:
        join = Join.read(hello)
        check_join(devices.place, "tag-1", record.secret, join)
        drawn = here.world.random_bytes(8)
        now_ns = here.clock.now_ns()
        epoch = join.counter % 64
        opened = join_session(devices.place, record.subject, record.secret, join, epoch, drawn, now_ns, 86_400)
        devices.sessions.add(opened.session)
        return opened.message

    seconds, welcome = _timed(join)
    tag.receive(welcome)
    return seconds


async def _enrolled(here: Site, number: int) -> float:
    """Time the checks of ENROL and ENROLLED."""
    device = await here.invited(f"new-{number}")
    guest = here.devices.place.who(device.username)
    hello = device.hello()
    token = device.kept.token

    def enrol() -> bytes:
        enrol = Enrol.read(hello)
        vetting.check_token(token, guest, enrol)
        vetting.check_proof(guest, enrol)
        public_key = device_public_key(enrol.parameter, enrol.public_key)
        drawn = here.world.random_bytes(64)
        name, utc_ns = f"new-{number}", here.clock.utc_ns()
        return vetting.answer(
            here.devices.authority, guest, token, hello, enrol, name, public_key, utc_ns, 7_776_000, drawn
        ).message

    seconds, welcome = _timed(enrol)
    device.receive(welcome, here.now_s())
    assert device.is_enrolled
    return seconds


def _memory() -> float:
    """Return KiB of a rich device's record and session after its first frame, by the process's resident memory."""
    return asyncio.run(_measure_memory())


async def _measure_memory() -> float:
    with tempfile.TemporaryDirectory() as folder:
        async with site(Path(folder)) as here:
            secret, profile = (await here.opened()).kept.resumption, DeviceProfile("meter")
            random_bytes = random.Random(5).randbytes
            gc.collect()
            before = psutil.Process().memory_info().rss
            for number in range(HELD):
                _hold(here, f"m-{number}", number, secret, profile, random_bytes)
            gc.collect()
            return (psutil.Process().memory_info().rss - before) / HELD / 1024


def _hold(here: Site, name: str, key_id: int, secret: bytes, profile: DeviceProfile, random_bytes: RandomBytes) -> None:
    """Add a device with an open session that has taken a frame."""
    devices = here.devices
    record = devices.registry.create(name, DeviceTier.RICH, profile, random_bytes(32))
    resume = Resume(1, bytes(8), 1, random_bytes(32), b"", bytes(32))
    nonce = random_bytes(32)
    opened = resume_session(devices.place, record.subject, secret, b"", resume, key_id, nonce, 0, 86_400)
    devices.sessions.add(opened.session)
    prk = schedule.extract(secret)
    digest = schedule.transcript(devices.place.who(name), resume.pack(), opened.message[:-32])
    up = schedule.rich_up(prk, digest)
    frame = Sealer(Suite.AES_256_GCM, up.key, up.iv, key_id).seal(b"\x01t1", opened.session.up_topic)
    assert here.up(name, frame) == b"\x01t1"


def run() -> list[Figure]:
    """Measure handshakes and memory."""
    costs = measure()
    kib = _memory()
    rotated_s = DEVICES / 2 * (costs.full + costs.certificate + costs.joined)
    return [
        Figure("devices.full_us", costs.full * 1e6, "us", SAMPLES),
        Figure("devices.resumed_us", costs.resumed * 1e6, "us", SAMPLES),
        Figure("devices.joined_us", costs.joined * 1e6, "us", SAMPLES),
        Figure("devices.enrol_ms", costs.enrolled * 1e3, "ms", SAMPLES // 4),
        Figure("devices.rotate_all_cpu_s_10k", rotated_s, "s", SAMPLES, target=60.0),
        Figure("devices.session_kib", kib, "KiB", HELD),
    ]
