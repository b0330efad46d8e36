"""Real worker processes: what they answer, how they die, and what it costs the daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.workers.garbage import BETWEEN_CALLS, DURING_CALLS
from qedge.workers.model import WorkerSpec
from qedge.workers.pool import WorkerPool
from qedge.workers.process import WorkerProcess

pytestmark = pytest.mark.integration

TARGETS = Path(__file__).parent / "targets"
LONG_S = 30.0


def make_pool(
    target: str = "Target", *, size: int = 1, spares: int = 1, memory_mib: int = 0, calls: int = 10**6
) -> WorkerPool:
    """Make a pool of workers that host one of the test's targets."""
    spec = WorkerSpec(
        "test",
        f"worker_targets:{target}",
        memory_limit_bytes=memory_mib << 20,
        max_calls=10**6,
        env={"PYTHONPATH": os.pathsep.join([str(TARGETS), *filter(None, [os.environ.get("PYTHONPATH")])])},
    )
    clock, metrics = SystemClock(), Metrics()
    return WorkerPool(
        spec, size=1, spares=1, clock=clock, metrics=metrics, random_bytes=os.urandom, uniform=lambda: 0.5
    )


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    """One worker and a spare, running."""
    made = make_pool()
    async with running(made):
        yield made


@asynccontextmanager
async def one_worker() -> AsyncIterator[WorkerProcess]:
    """One process, so that all calls are its."""
    path = os.pathsep.join([str(TARGETS), *filter(None, [os.environ.get("PYTHONPATH")])])
    spec = WorkerSpec("test", "worker_targets:Target", env={"PYTHONPATH": path})
    worker = WorkerProcess(spec, clock=SystemClock(), random_bytes=os.urandom)
    try:
        await worker.start()
        yield worker
    finally:
        await worker.close()


class running:  # noqa: N801 - reads as a word in `async with running(pool)`
    """Run a pool for the length of a block."""

    def __init__(self, pool: WorkerPool) -> None:
        self.pool = pool

    async def __aenter__(self) -> WorkerPool:
        self.task = asyncio.create_task(self.pool.run(lambda: None))
        return self.pool

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def code_of(pool: WorkerPool, method: str, number: int = 0, deadline_s: float = LONG_S) -> str:
    """Return the code of the error that a call ends with."""
    with pytest.raises(QedgeError) as error:
        await pool.call(method, {"number": number}, deadline_s=deadline_s)
    return error.value.code


async def echo(pool: WorkerPool) -> None:
    """Prove that the pool answers."""
    assert await pool.call("echo", {"number": 5}, deadline_s=LONG_S) == {"number": 5}


async def test_a_worker_that_dies_under_a_call_is_reported_and_the_spare_takes_the_next(pool: WorkerPool) -> None:
    assert await code_of(pool, "die", 3) == "worker.crashed"
    await echo(pool)


async def test_a_worker_killed_from_outside_is_replaced(pool: WorkerPool) -> None:
    await echo(pool)
    call = asyncio.create_task(pool.call("sleep", {"number": 20}, deadline_s=LONG_S))
    while not (busy := [view.pid for view in pool.views() if view.state == "busy"]):
        await asyncio.sleep(0.01)
    os.kill(busy[0], signal.SIGKILL)
    with pytest.raises(QedgeError) as error:
        await call
    assert error.value.code == "worker.crashed"
    await echo(pool)


async def test_a_hung_call_ends_at_its_deadline_and_its_worker_is_replaced(pool: WorkerPool) -> None:
    await echo(pool)
    assert await code_of(pool, "sleep", 60, deadline_s=0.3) == "worker.deadline"
    await echo(pool)
    assert sum(view.restarts for view in pool.views()) >= 1


async def test_an_error_of_the_target_crosses_with_code_fix_and_details(pool: WorkerPool) -> None:
    with pytest.raises(QedgeError) as error:
        await pool.call("refuse", {}, deadline_s=LONG_S)
    assert (error.value.code, error.value.fix, error.value.details) == ("circuit.syntax", "Write it anew.", {"line": 3})
    assert all(view.restarts == 0 for view in pool.views())


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1 << 20, 100 << 20])
async def test_answers_of_any_size_cross_intact(pool: WorkerPool, size: int) -> None:
    for _ in range(2):
        assert await pool.call("big", {"number": size}, deadline_s=LONG_S) == b"\xa5" * size


async def test_an_answer_beyond_the_limit_is_an_error_and_the_worker_lives(pool: WorkerPool) -> None:
    assert await code_of(pool, "big", 300 << 20) == "worker.too_large"
    await echo(pool)


async def test_random_bytes_come_from_the_daemon(pool: WorkerPool) -> None:
    first, second = [await pool.call("random", {"number": 1000}, deadline_s=LONG_S) for _ in range(2)]
    assert isinstance(first, bytes)
    assert len(first) == 1000
    assert first != second


async def test_garbage_is_collected_between_ordinary_calls_and_not_during_them() -> None:
    async with one_worker() as worker:
        found = [await worker.call("rings", {"number": 500}, deadline_s=LONG_S) for _ in range(400)]
        collections = {each["collections"] for each in found if isinstance(each, dict)}
        assert collections == {0}
        alive = [each["most"] for each in found if isinstance(each, dict)]
        assert max(value for value in alive if isinstance(value, int)) <= BETWEEN_CALLS + 500


async def test_a_long_call_collects_its_garbage_while_it_runs() -> None:
    async with one_worker() as worker:
        found = await worker.call("rings", {"number": 5 * DURING_CALLS}, deadline_s=LONG_S)
        assert isinstance(found, dict)
        assert isinstance(found["most"], int)
        assert found["most"] <= DURING_CALLS + BETWEEN_CALLS


async def test_a_cancelled_call_ends_in_the_worker_or_the_worker_ends(pool: WorkerPool) -> None:
    await echo(pool)
    for method in ("wait_for_cancel", "sleep"):
        call = asyncio.create_task(pool.call(method, {"number": 20}, deadline_s=LONG_S))
        while not any(view.state == "busy" for view in pool.views()):
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await echo(pool)
    async with asyncio.timeout(LONG_S):
        while not (restarts := sum(view.restarts for view in pool.views())):
            await asyncio.sleep(0.01)
    assert restarts == 1, "the worker that could be told has to go on, the other one must not"


async def test_a_memory_hog_ends_with_a_reason_and_the_daemon_never_notices() -> None:
    async with running(make_pool(memory_mib=64)) as pool:
        assert await code_of(pool, "hog", 4096) == "job.too_much_memory"
        await echo(pool)


async def test_garbage_from_a_worker_is_an_error_and_ends_it(pool: WorkerPool) -> None:
    await echo(pool)
    pid = next(view.pid for view in pool.views() if view.state == "ready")
    sockets = [name for name in os.listdir(f"/proc/{pid}/fd") if "socket" in os.readlink(f"/proc/{pid}/fd/{name}")]
    assert await code_of(pool, "garbage", int(sockets[0])) in ("worker.bad_answer", "worker.crashed", "driver.fatal")
    await echo(pool)


async def test_what_a_worker_prints_does_not_stop_it_however_much_it_is(pool: WorkerPool) -> None:
    for _ in range(20):
        await pool.call("noise", {}, deadline_s=LONG_S)
    await echo(pool)


async def test_a_thousand_calls_and_many_deaths_leave_no_descriptor_behind(pool: WorkerPool) -> None:
    await echo(pool)
    before = len(os.listdir("/proc/self/fd"))
    inside = await pool.call("descriptors", {}, deadline_s=LONG_S)
    for _ in range(1000):
        await echo(pool)
    assert await pool.call("descriptors", {}, deadline_s=LONG_S) == inside
    for _ in range(5):
        assert await code_of(pool, "die", 1) == "worker.crashed"
        await echo(pool)
    while sum(view.state == "ready" for view in pool.views()) < 2:
        await asyncio.sleep(0.02)
    assert len(os.listdir("/proc/self/fd")) <= before + 2


async def test_a_target_that_cannot_be_made_tells_callers_why() -> None:
    async with running(make_pool("Broken")) as pool:
        async with asyncio.timeout(LONG_S):
            while pool.last_error is None:
                await asyncio.sleep(0.01)
        assert await code_of(pool, "echo", deadline_s=0.2) == "driver.bad_settings"


async def test_no_worker_is_killed_for_the_time_that_a_call_waited_for_it(pool: WorkerPool) -> None:
    await echo(pool)
    first = asyncio.create_task(pool.call("sleep", {"number": 1}, deadline_s=LONG_S))
    while not any(view.state == "busy" for view in pool.views()):
        await asyncio.sleep(0.01)
    # nearly all of its time is over when it gets the worker, which needs more than the rest
    await pool.call("nap_ms", {"number": 300}, deadline_s=1.1)
    await first
    assert sum(view.restarts for view in pool.views()) == 0


async def test_light_calls_use_the_spare_while_the_worker_is_busy(pool: WorkerPool) -> None:
    await echo(pool)
    busy = asyncio.create_task(pool.call("wait_for_cancel", {}, deadline_s=LONG_S))
    await asyncio.sleep(0)
    while not any(view.state == "busy" for view in pool.views()):
        await asyncio.sleep(0.01)
    assert await pool.call("echo", {"number": 1}, deadline_s=LONG_S, light=True) == {"number": 1}
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)


async def test_of_calls_that_wait_the_most_urgent_goes_first_and_one_that_gives_up_takes_nothing(
    pool: WorkerPool,
) -> None:
    await echo(pool)
    busy = asyncio.create_task(pool.call("wait_for_cancel", {}, deadline_s=LONG_S))
    while not any(view.state == "busy" for view in pool.views()):
        await asyncio.sleep(0.01)
    ended: list[int] = []

    async def one(rank: int) -> None:
        await pool.call("echo", {"number": rank}, deadline_s=LONG_S, rank=rank)
        ended.append(rank)

    waiting = [asyncio.create_task(one(rank)) for rank in (2, 1, 2, 0)]
    await asyncio.sleep(0.05)
    waiting[1].cancel()
    busy.cancel()
    await asyncio.gather(busy, *waiting, return_exceptions=True)
    assert ended == [0, 2, 2]
    assert await pool.call("echo", {"number": 7}, deadline_s=LONG_S) == {"number": 7}


ORPHAN = """
import asyncio, os, sys
sys.path.insert(0, {root!r})
from qedge.base.log import LogConfig, configure
configure(LogConfig())
from tests.integration.test_workers import make_pool, echo, running
async def main():
    async with running(make_pool()) as pool:
        await echo(pool)
        print(*[view.pid for view in pool.views() if view.pid], flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_workers_end_with_their_parent_even_if_it_is_killed() -> None:
    code = ORPHAN.format(root=str(Path(__file__).parents[2]))
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout is not None
    pids = [int(word) for word in (await asyncio.to_thread(parent.stdout.readline)).split()]
    assert pids
    workers = [psutil.Process(pid) for pid in pids]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _gone, alive = await asyncio.to_thread(psutil.wait_procs, workers, 10)
    assert alive == []


@asynccontextmanager
async def streaming() -> AsyncIterator[WorkerProcess]:
    path = os.pathsep.join([str(TARGETS), *filter(None, [os.environ.get("PYTHONPATH")])])
    spec = WorkerSpec("test", "worker_targets:Streams", env={"PYTHONPATH": path})
    process = WorkerProcess(spec, clock=SystemClock(), random_bytes=os.urandom)
    await process.start()
    try:
        yield process
    finally:
        await process.close()


class Heard:
    """What a stream heard."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes | str | QedgeError] = asyncio.Queue()

    def open(self, process: WorkerProcess) -> int:
        return process.open_stream(self.messages.put_nowait, self.messages.put_nowait)

    async def next(self) -> bytes | str | QedgeError:
        async with asyncio.timeout(LONG_S):
            return await self.messages.get()


async def test_streams_carry_messages_in_order_beside_calls() -> None:
    async with streaming() as process:
        heard = [Heard(), Heard()]
        ids = [each.open(process) for each in heard]
        for number in range(200):
            for stream_id in ids:
                process.tell(stream_id, number.to_bytes(2, "big") * stream_id)
        assert await process.call("echo", {"number": 7}, deadline_s=LONG_S) == {"number": 7}
        process.tell(ids[0], "text")
        for stream_id, each in zip(ids, heard, strict=True):
            assert [await each.next() for _ in range(200)] == [
                number.to_bytes(2, "big") * stream_id for number in range(200)
            ]
        assert await heard[0].next() == "TEXT"


async def test_a_message_of_several_megabytes_comes_through_whole() -> None:
    async with streaming() as process:
        heard = Heard()
        process.tell(heard.open(process), bytes(range(256)) * 20_000)
        assert await heard.next() == bytes(range(256)) * 20_000


async def test_a_worker_that_dies_breaks_its_streams_and_takes_no_more() -> None:
    async with streaming() as process:
        heard = Heard()
        stream_id = heard.open(process)
        process.tell(stream_id, "die")
        broken = await heard.next()
        assert isinstance(broken, QedgeError)
        assert broken.code == "worker.crashed"
        with pytest.raises(QedgeError):
            process.tell(stream_id, b"more")


async def test_a_stream_that_was_ended_hears_nothing_more_and_the_worker_is_told() -> None:
    async with streaming() as process:
        ended, other = Heard(), Heard()
        stream_id = ended.open(process)
        assert other.open(process) == stream_id + 1
        process.tell(stream_id, "late")
        process.end_stream(stream_id)
        process.end_stream(stream_id)
        assert await other.next() == "ended"
        assert ended.messages.empty()
