"""Things are broken for real under 60 jobs in flight: the daemon lives or comes back, nothing accepted is lost."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiomqtt
import psutil
import pytest

from benchmarks.broker import Broker
from qedge.base.errors import QedgeError
from qedge.cli.demo.scenes import heavy_program
from qedge.client.node import NodeClient
from qedge.wire.envelope import MAX_BYTES, Header, encode
from qedge.wire.jobs import JobState, JobSubmission
from qedge.wire.node import DriverChange, DriverView, LinkMeasure, NodeStatus, PingRequest, RandomRequest
from qedge.wire.session import Hello
from qedge.wire.topics import listened
from tests.integration.daemon_process import BELL, DaemonProcess, submit_many, wait_ended

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

FAULTY = Path(__file__).parent / "faulty"
IN_FLIGHT = 60
BAD_SHOTS = 101
LONGER = heavy_program(19, 12)
"""A job that is long enough to be hit while it runs."""

MEDIUM = heavy_program(17, 8)
"""A job of some ten milliseconds, so that sixty of them are really in flight."""

BAD_QPU_MODES = ("hang", "crash", "wrong_sum", "bad_key", "nan", "nonsense", "negative")

QPU = '[drivers.qpu]\ndriver = "sim_qpu"\n'
Make = Callable[..., DaemonProcess]


def _daemon(home: Path, config: str) -> DaemonProcess:
    search = os.pathsep.join([str(FAULTY), *filter(None, [os.environ.get("PYTHONPATH")])])
    daemon = DaemonProcess(home, config, {"PYTHONPATH": search})
    daemon.start()
    return daemon


@pytest.fixture(scope="module")
def sturdy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon with all built-in drivers: whatever dies under it, the next test finds it well."""
    daemon = _daemon(tmp_path_factory.mktemp("sturdy") / "n", "")
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def beset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon with a good QPU, all bad ones and a random source that goes bad when it is told to."""
    bad = "".join(
        f'[drivers.{mode}]\ndriver = "faulty_qpu"\nsettings = {{ mode = "{mode}" }}\n' for mode in BAD_QPU_MODES
    )
    good = f'{QPU}[drivers.qrng]\ndriver = "faulty_qrng"\n'
    daemon = _daemon(tmp_path_factory.mktemp("beset") / "n", f"{good}{bad}[engine]\nrun_deadline_s = 3.0\n")
    yield daemon
    daemon.stop()


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Make]:
    """Start daemons below the test's folder and stop them at its end."""
    made: list[DaemonProcess] = []

    def make(config: str = "", *, home: Path | None = None) -> DaemonProcess:
        made.append(_daemon(home or tmp_path / f"node{len(made)}", config))
        return made[-1]

    yield make
    for daemon in made:
        if daemon.process is not None:
            daemon.stop()


def medium(test: str) -> str:
    """Return a program that no earlier test of a shared daemon has the answer to."""
    return f"// {test}\n{MEDIUM}"


def _driver(status: NodeStatus, name: str) -> DriverView:
    return next(driver for driver in status.drivers if driver.name == name)


def _busy_pids(status: NodeStatus) -> list[int]:
    workers = [worker for driver in status.drivers if driver.kind == "qpu" for worker in driver.workers]
    return [worker.pid for worker in workers if worker.pid and worker.state == "busy"]


async def test_a_killed_circuit_worker_costs_no_job(sturdy: DaemonProcess) -> None:
    daemon = sturdy
    await daemon.wait_up()
    async with daemon.client() as client:
        for attempt in range(5):  # a blow may fall between two jobs
            ids = await submit_many(client, IN_FLIGHT // 3, f"// killed {attempt}\n{LONGER}")
            while not (busy := _busy_pids(await client.status())):
                await asyncio.sleep(0.001)
            os.kill(busy[0], signal.SIGKILL)
            jobs = await wait_ended(daemon, ids)
            assert {job.state for job in jobs} == {JobState.DONE}
            if any(job.attempts == 2 for job in jobs):
                break
        else:
            raise AssertionError("no job ever ran in a worker that was killed")
    assert daemon.is_alive()


@pytest.mark.parametrize("name", ["qrng", "qkd-alice", "qkd-bob"])
async def test_a_driver_killed_in_the_middle_of_a_call_comes_back(sturdy: DaemonProcess, name: str) -> None:
    daemon = sturdy
    await daemon.wait_status(lambda status: status.ready and all(d.operating_state == "up" for d in status.drivers))
    async with daemon.client() as client:
        ids = await submit_many(client, IN_FLIGHT, medium(name))
        link = (await client.status()).links[0].name
        measure = asyncio.create_task(client.measure_link(link, LinkMeasure(sifted=20_000)))
        await asyncio.sleep(0.05)
        for worker in _driver(await client.status(), name).workers:
            if worker.pid:
                os.kill(worker.pid, signal.SIGKILL)
        try:
            await measure
        except QedgeError as error:
            assert error.code in ("worker.crashed", "worker.unavailable", "worker.deadline", "driver.retriable")
        jobs = await wait_ended(daemon, ids)
        assert {job.state for job in jobs} == {JobState.DONE}
        await daemon.wait_status(
            lambda status: _driver(status, name).operating_state == "up" and status.entropy.healthy
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                assert (await client.measure_link(link, LinkMeasure(sifted=2_000))).qber < 0.1
                break
            except QedgeError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.2)


@pytest.mark.parametrize("kind", ["mosquitto", "iotcore"])
async def test_a_killed_broker_comes_back_and_no_job_is_lost(make_daemon: Make, kind: str) -> None:
    if kind == "mosquitto" and not _has_mosquitto():
        pytest.skip("mosquitto is not installed")
    daemon = make_daemon(f'{QPU}[broker]\nkind = "{kind}"\n')
    before = await daemon.wait_up()
    assert before.bus.kind == kind
    async with daemon.client() as client:
        ids = await submit_many(client, IN_FLIGHT, MEDIUM)
        killed = [
            child.pid
            for child in psutil.Process(daemon.pid).children(recursive=True)
            if any(kind in part or "rumqttd" in part for part in child.cmdline())
        ]
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        jobs = await wait_ended(daemon, ids)
        assert {job.state for job in jobs} == {JobState.DONE}
    after = await daemon.wait_status(
        lambda status: status.bus.connected and status.bus.reconnects > before.bus.reconnects
    )
    assert after.ready


async def test_a_killed_daemon_loses_nothing_it_accepted(make_daemon: Make) -> None:
    daemon = make_daemon(QPU)
    await daemon.wait_up()
    async with daemon.client() as client:
        ids = await submit_many(client, IN_FLIGHT, MEDIUM)
    workers = [child.pid for child in psutil.Process(daemon.pid).children(recursive=True)]
    daemon.kill()
    daemon.start()
    jobs = await wait_ended(daemon, ids)
    assert {job.state for job in jobs} == {JobState.DONE}
    _gone, alive = psutil.wait_procs([psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)], timeout=10)
    assert alive == [], f"children outlived the killed daemon: {alive}"


@pytest.mark.parametrize(
    "mode",
    [
        *BAD_QPU_MODES[2:4],
        *(pytest.param(each, marks=pytest.mark.long) for each in (*BAD_QPU_MODES[:2], *BAD_QPU_MODES[4:])),
    ],
)
async def test_a_bad_qpu_driver_fails_its_own_jobs_with_a_reason_and_no_others(beset: DaemonProcess, mode: str) -> None:
    daemon = beset
    await daemon.wait_status(
        lambda status: status.ready and all(_driver(status, name).operating_state == "up" for name in ("qpu", mode))
    )
    async with daemon.client() as client:
        program = medium(mode)
        good = await asyncio.gather(
            *(client.submit(JobSubmission(program=program, shots=100, seed=i, qpu="qpu")) for i in range(IN_FLIGHT))
        )
        bad = [await client.submit(JobSubmission(program=BELL, shots=BAD_SHOTS, qpu=mode)) for _ in range(2)]
        failed = await wait_ended(daemon, [job.id for job in bad], 90)
        done = await wait_ended(daemon, [job.id for job in good])
    expected = {"hang": "worker.deadline", "crash": "worker.crashed"}.get(mode, "driver.lied")
    assert {job.state for job in done} == {JobState.DONE}
    assert {job.state for job in failed} == {JobState.FAILED}
    codes = [job.error.code if job.error else "" for job in failed]
    assert codes[0] == expected
    # the second may come while a worker that crashed is not back yet
    assert codes[1] == expected or (mode == "crash" and codes[1] == "worker.unavailable")
    assert daemon.is_alive()


@pytest.mark.parametrize(
    "mode", ["zeros", *(pytest.param(each, marks=pytest.mark.long) for each in ("hang", "short", "nan", "nonsense"))]
)
async def test_a_bad_random_source_is_withdrawn_and_recovers_while_jobs_run(beset: DaemonProcess, mode: str) -> None:
    daemon = beset
    await daemon.wait_status(lambda status: status.ready and status.entropy.healthy)
    async with daemon.client() as client:
        await daemon.wait_up()
        ids = await submit_many(client, IN_FLIGHT, medium(f"source {mode}"))
        await client.change_driver("qrng", DriverChange(settings={"mode": mode}))
        await daemon.wait_status(lambda status: not status.entropy.healthy, 60)
        drawn = await client.random(RandomRequest(bytes=64))
        assert not drawn.quantum
        with pytest.raises(QedgeError) as refusal:
            await client.random(RandomRequest(bytes=64, require_quantum=True))
        assert refusal.value.code == "entropy.no_quantum"
        jobs = await wait_ended(daemon, ids)
        assert {job.state for job in jobs} == {JobState.DONE}
        deadline = time.monotonic() + 30
        while True:
            try:
                await client.change_driver("qrng", DriverChange(settings={"mode": "well"}))
                break
            except QedgeError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.2)
        await daemon.wait_status(lambda status: status.entropy.healthy, 60)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 80 MiB that a test can fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"this box does not let tests mount: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_refuses_new_work_and_keeps_what_was_accepted(make_daemon: Make, small_disk: Path) -> None:
    daemon = make_daemon(QPU, home=small_disk / "n")
    await daemon.wait_up()
    async with daemon.client() as client:
        ids = await submit_many(client, IN_FLIGHT, MEDIUM)
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as full:
            try:
                while True:
                    full.write(bytes(1 << 16))
            except OSError:
                pass
        refused = 0
        for attempt in range(200):
            try:
                job = await client.submit(JobSubmission(program=BELL, shots=1000, tags=("x" * 60,), seed=attempt))
                ids.append(job.id)
            except QedgeError as error:
                assert _says_disk(error)
                refused += 1
                if refused == 3:
                    break
        assert refused == 3, "the disk is full and the node still accepts work"
        assert (await client.status()).not_ready
        filler.unlink()
        jobs = await wait_ended(daemon, ids, 90)
        assert {job.state for job in jobs} == {JobState.DONE}
        await daemon.wait_status(lambda status: status.ready)
        async with asyncio.timeout(60):
            while True:
                try:
                    assert (await client.submit(JobSubmission(program=BELL, shots=10))).id
                    break
                except QedgeError as error:
                    assert _says_disk(error)  # the host was looked at before there was room, and is looked at again
                    await asyncio.sleep(0.2)
    assert daemon.stop() == 0


def _says_disk(error: QedgeError) -> bool:
    return error.code == "store.disk_full" or "the disk is full" in error.message or "critical (disk)" in error.message


async def test_an_invalid_reload_keeps_the_old_configuration_and_every_job(make_daemon: Make) -> None:
    daemon = make_daemon(f'{QPU}[drivers.qrng]\ndriver = "sim_qrng"\n')
    await daemon.wait_up()
    async with daemon.client() as client:
        ids = await submit_many(client, IN_FLIGHT, MEDIUM)
        daemon.write_config("[engine]\nno_such_key = 1\n[broken\n")
        daemon.signal(signal.SIGHUP)
        await _log_line(daemon, "daemon.reload_refused")
        daemon.write_config(f'{QPU}[drivers.second]\ndriver = "sim_qpu"\n')
        daemon.signal(signal.SIGHUP)
        await _log_line(daemon, "daemon.reloaded")
        jobs = await wait_ended(daemon, ids)
        assert {job.state for job in jobs} == {JobState.DONE}
        status = await daemon.wait_status(lambda status: any(d.name == "second" for d in status.drivers))
        assert "qrng" not in {driver.name for driver in status.drivers}


@pytest.mark.parametrize("number", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_garbage_and_oversize_messages_on_every_topic_have_no_effect(
    make_daemon: Make, tmp_path: Path, number: int
) -> None:
    with Broker("iotcore" if not _has_mosquitto() else "mosquitto", tmp_path / "broker") as broker:
        config = f'{QPU}[node]\nname = "victim"\n[broker]\nurl = "mqtt://127.0.0.1:{broker.port}"\n'
        daemon = make_daemon(config)
        before = await daemon.wait_up()
        # only members of a fleet listen for renewed certificates
        topics = tuple(each for each in listened(before.fleet, "victim") if not each.endswith("/renewed"))
        assert topics
        async with daemon.client() as client:
            ids = await submit_many(client, IN_FLIGHT, MEDIUM)
            await _flood(broker.port, topics, number)
            jobs = await wait_ended(daemon, ids)
            assert {job.state for job in jobs} == {JobState.DONE}
            after = await client.status()
            assert after.bus.connected
            assert after.node == "victim"
            # The way to the broker and back still works, and in the end every single message was looked at and counted.
            assert len((await client.ping(PingRequest(node="victim", count=3, timeout_s=60))).rtt_ms) == 3
            async with asyncio.timeout(60):
                while await _rejected(client) < number * len(topics):
                    await asyncio.sleep(0.2)
        assert daemon.is_alive()


async def _rejected(client: NodeClient) -> float:
    lines = [line for line in (await client.metrics()).splitlines() if line.startswith("qedge_bus_rejected_total")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def _flood(port: int, topics: tuple[str, ...], number: int) -> None:
    """Send `number` messages to each topic: noise, near misses of real envelopes, and some that are far too large."""
    noise = random.Random(7)
    version = aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client("127.0.0.1", port, protocol=version, max_inflight_messages=1000) as attacker:
        attacker.pending_calls_threshold = 1 << 30
        for topic in topics:
            good = encode(Header(topic, "stranger", 1, "hello/1", 1), Hello(bytes(16), 0, b"1"))
            for start in range(0, number, 500):
                batch = [_garbage(noise, good, start + index) for index in range(500)]
                await asyncio.gather(*(attacker.publish(topic, payload, qos=1, timeout=60) for payload in batch))


def _garbage(noise: random.Random, good: bytes, index: int) -> bytes:
    if index % 500 == 0:
        return bytes(MAX_BYTES + 1000)
    if index % 3 == 0:
        cut = bytearray(good)
        cut[noise.randrange(12)] ^= 1 << noise.randrange(8)  # the prefix: magic, version, seal, lengths
        return bytes(cut)
    return noise.randbytes(noise.randrange(0, 200))


def _has_mosquitto() -> bool:
    return bool(shutil.which("mosquitto")) or Path("/usr/sbin/mosquitto").exists()


async def _log_line(daemon: DaemonProcess, event: str, limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while event not in daemon.log():
        assert time.monotonic() < deadline, f"{event} never logged: {daemon.log()[-2000:]}"
        assert daemon.is_alive()
        await asyncio.sleep(0.05)


async def test_sighup_from_the_first_instant_does_not_end_the_daemon(make_daemon: Make) -> None:
    daemon = make_daemon(QPU)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        # The interpreter needs some time from exec to the first line of ours; the unit ignores the signal until then.
        if b"qedge" in Path(f"/proc/{daemon.pid}/cmdline").read_bytes() and _catches_hangup(daemon.pid):
            daemon.signal(signal.SIGHUP)
        await asyncio.sleep(0.01)
    await daemon.wait_up()


def _catches_hangup(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    lines = [line for line in status.splitlines() if line.startswith(("SigCgt", "SigIgn"))]
    return any(_bit(line) for line in lines)


def _bit(line: str) -> bool:
    return bool(int(line.split()[1], 16) & 1)
