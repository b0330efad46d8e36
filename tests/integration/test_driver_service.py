"""One configured driver: start-up policies, locks, settings and lies, with real workers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.wire.node import DriverChange
from qedge.workers.config import DriverConfig, WorkersConfig
from qedge.workers.driver_service import DriverService

pytestmark = pytest.mark.integration

FAULTY = Path(__file__).parent / "faulty"
LIMIT_S = 30.0


class Kept:
    """Admin states in memory."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}

    async def get(self, instance: str) -> str:
        return self.states.get(instance, "unlocked")

    async def set(self, instance: str, state: str) -> None:
        self.states[instance] = state


@pytest.fixture(autouse=True)
def _faulty_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(FAULTY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    )


class Running:
    """A driver service and whether it called itself ready."""

    def __init__(self, service: DriverService) -> None:
        self.service = service
        self.ready = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(tmp_path: Path, kept: Kept | None = None, **config: object) -> AsyncIterator[Running]:
    """Run a driver for the length of a block."""
    service = DriverService(
        "rng",
        DriverConfig(**{"driver": "faulty_qrng", **config}),  # type: ignore[arg-type]
        WorkersConfig(health_interval_s=0.2),
        state_dir=str(tmp_path / "rng"),
        clock=SystemClock(),
        metrics=Metrics(),
        random_bytes=os.urandom,
        uniform=lambda: 0.5,
        admin_states=kept or Kept(),
    )
    made = Running(service)
    task = asyncio.create_task(service.run(made.ready.set))
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def code_of(work: object) -> str:
    """Return the code of the error that an awaitable ends with."""
    with pytest.raises(QedgeError) as error:
        await work  # type: ignore[misc]
    return error.value.code


async def test_a_driver_comes_up_with_its_kind_and_facts(tmp_path: Path) -> None:
    async with running(tmp_path, driver="sim_qrng") as one:
        await one.until(lambda: one.service.is_up)
        view = one.service.view()
        assert (view.kind, view.driver, view.operating_state, view.simulated) == ("qrng", "sim_qrng", "up", True)
        assert view.properties["stuck"] is False
        await one.service.change(DriverChange(settings={"stuck": True}))
        assert one.service.view().properties["stuck"] is True


async def test_retry_is_ready_at_once_and_tries_on(tmp_path: Path) -> None:
    async with running(tmp_path, driver="not_installed", startup="retry") as one:
        await one.ready.wait()
        await one.until(lambda: one.service.view().workers[0].restarts >= 2)
        assert not one.service.is_up
        assert await code_of(one.service.call("read", {"num_bytes": 1}, deadline_s=0.2)) == "driver.not_found"


async def test_error_is_not_ready_while_the_driver_does_not_open(tmp_path: Path) -> None:
    async with running(tmp_path, driver="not_installed", startup="error") as one:
        await one.until(lambda: one.service.view().workers[0].restarts >= 2)
        assert not one.ready.is_set()
    async with running(tmp_path, startup="error") as one:
        await asyncio.wait_for(one.ready.wait(), LIMIT_S)
        assert one.service.is_up


async def test_ignore_gives_up_after_the_first_failure(tmp_path: Path) -> None:
    async with running(tmp_path, driver="not_installed", startup="ignore") as one:
        await one.ready.wait()
        await one.until(lambda: all(worker.state == "stopped" for worker in one.service.view().workers))
        assert one.service.view().workers[0].restarts <= 1


async def test_a_locked_driver_takes_no_calls_and_the_lock_is_kept(tmp_path: Path) -> None:
    kept = Kept()
    async with running(tmp_path, kept) as one:
        await one.until(lambda: one.service.is_up)
        await one.service.change(DriverChange(admin_state="locked"))
        assert await code_of(one.service.call("read", {"num_bytes": 1}, deadline_s=5)) == "driver.locked"
        assert kept.states == {"rng": "locked"}
        await one.service.change(DriverChange(admin_state="unlocked"))
        assert await one.service.call("read", {"num_bytes": 1}, deadline_s=5)
        assert await code_of(one.service.change(DriverChange(admin_state="ajar"))) == "job.bad_request"


async def test_a_bad_setting_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        await one.until(lambda: one.service.is_up)
        for bad in ({"mode": "no such mode"}, {"unknown": 1}, {"mode": 5}):
            assert await code_of(one.service.change(DriverChange(settings=bad))) == "driver.bad_settings"  # type: ignore[arg-type]
        assert await one.service.call("read", {"num_bytes": 8}, deadline_s=5)


@pytest.mark.parametrize("mode", ["short", "nan", "nonsense"])
async def test_an_answer_that_cannot_be_true_is_an_error_of_its_own(tmp_path: Path, mode: str) -> None:
    async with running(tmp_path) as one:
        await one.until(lambda: one.service.is_up)
        await one.service.change(DriverChange(settings={"mode": mode}))
        assert await code_of(one.service.call("read", {"num_bytes": 8}, deadline_s=5)) == "driver.lied"


async def test_a_hung_driver_is_killed_at_the_deadline_and_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path, settings={"mode": "hang"}) as one:
        await one.until(lambda: one.service.is_up)
        assert await code_of(one.service.call("read", {"num_bytes": 8}, deadline_s=0.3)) == "worker.deadline"
        await one.until(lambda: one.service.is_up)
        await one.service.change(DriverChange(settings={"mode": "well"}))
        assert await one.service.call("read", {"num_bytes": 8}, deadline_s=5)
