"""A set of workers outlives what befalls the processes of it, and the end of the service that keeps them."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator, Mapping

import pytest

from qedge.base.backoff import Backoff
from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.workers import pool as pooling
from qedge.workers.driver_service import _health
from qedge.workers.model import Msg, WorkerSpec
from qedge.workers.pool import WorkerPool
from qedge_driver_api import OperatingState


class FakeProcess:
    """A process that answers at once. `refusals`: so many of the next starts find no room on the host."""

    refusals = 0
    made: list[FakeProcess]

    def __init__(self, spec: WorkerSpec, **_tools: object) -> None:
        self.name = spec.name
        self.pid, self.calls, self.silent_s, self.resident_bytes = len(self.made) + 1, 0, 0.0, 0
        self.is_alive = False
        self._dead = asyncio.Event()
        self.made.append(self)

    async def start(self) -> None:
        """Start."""
        if FakeProcess.refusals:
            FakeProcess.refusals -= 1
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.is_alive = True

    async def call(self, method: str, _args: Mapping[str, Msg], *, deadline_s: float) -> Msg:
        """Answer."""
        assert deadline_s > 0
        return method

    async def wait_dead(self) -> str:
        """Wait for the end."""
        await self._dead.wait()
        return "signal 9"

    async def kill(self, _reason: str) -> None:
        """End."""
        self.is_alive = False
        self._dead.set()

    async def close(self) -> None:
        """End."""
        await self.kill("stop")


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeProcess]]:
    FakeProcess.made, FakeProcess.refusals = [], 0
    monkeypatch.setattr(pooling, "WorkerProcess", FakeProcess)
    yield FakeProcess.made
    FakeProcess.refusals = 0


def make_pool() -> WorkerPool:
    return WorkerPool(
        WorkerSpec("test", "nothing:Nothing"),
        size=2,
        spares=0,
        clock=ManualClock(now_ns=10**12),
        metrics=Metrics(),
        random_bytes=os.urandom,
        uniform=lambda: 0.0,
        backoff=Backoff(0.001, 0.001),
    )


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_pool_that_was_ended_and_begins_again_has_its_workers(processes: list[FakeProcess]) -> None:
    pool = make_pool()
    for _ in range(2):
        running = asyncio.create_task(pool.run(lambda: None))
        assert await pool.call("hello", {}, deadline_s=2.0) == "hello"
        assert not running.done()
        await stop(running)
    assert len(processes) == 4


async def test_a_host_without_room_for_one_more_process_keeps_the_ones_it_has(processes: list[FakeProcess]) -> None:
    pool = make_pool()
    running = asyncio.create_task(pool.run(lambda: None))
    await pool.call("hello", {}, deadline_s=2.0)
    FakeProcess.refusals = 3
    await processes[0].kill("died")
    async with asyncio.timeout(5):
        while len(processes) < 6:
            await asyncio.sleep(0.001)
    assert not running.done()
    assert processes[1].is_alive
    assert await pool.call("hello", {}, deadline_s=2.0) == "hello"
    await stop(running)


async def test_where_no_process_can_be_made_callers_hear_why_and_what_to_do(processes: list[FakeProcess]) -> None:
    pool = make_pool()
    FakeProcess.refusals = 10**6
    running = asyncio.create_task(pool.run(lambda: None))
    with pytest.raises(QedgeError) as error:
        await pool.call("hello", {}, deadline_s=0.05)
    assert error.value.code == "worker.unavailable"
    assert "open files" in error.value.fix
    assert processes
    await stop(running)


@pytest.mark.parametrize("answer", [{"state": "splendid"}, {"state": 5}, [], None, {}])
def test_health_that_cannot_be_read_is_bad_health(answer: Msg) -> None:
    assert _health(answer)[0] is OperatingState.DOWN


def test_health_is_read() -> None:
    assert _health({"state": "up", "reason": "r"}) == (OperatingState.UP, "r")
