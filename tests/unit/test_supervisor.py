"""The supervisor keeps siblings alive, paces restarts, and stops in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from qedge.base.backoff import Backoff
from qedge.base.clock import ManualClock
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.base.systemd import Notifier
from qedge.supervisor import RestartPolicy, Supervisor, Watchdog

Ready = Callable[[], None]


class Recorded:
    """A service that notes what happens to it and fails as often as it is told."""

    def __init__(self, name: str, log: list[str], failures: int = 0, *, finishes: bool = False) -> None:
        self.name = name
        self.log = log
        self.failures = failures
        self.finishes = finishes

    async def run(self, ready: Ready) -> None:
        self.log.append(f"{self.name} runs")
        if self.failures > 0:
            self.failures -= 1
            raise RuntimeError("broken on purpose")
        ready()
        if self.finishes:
            return
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append(f"{self.name} stops")


class Stubborn:
    """A service that does not heed its cancellation."""

    name = "stubborn"

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def run(self, ready: Ready) -> None:
        ready()
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                continue


class Leaning:
    """A service that waits for something of another's, which is cancelled under it once."""

    name = "leaning"

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, ready: Ready) -> None:
        self.runs += 1
        ready()
        theirs: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.runs == 1:
            theirs.cancel()
        await theirs


class Untidy:
    """A service whose last work fails."""

    name = "untidy"

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, ready: Ready) -> None:
        self.runs += 1
        ready()
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("the disk is full")


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    policy = RestartPolicy(backoff=Backoff(0.001, 0.002), budget=3, window_s=60, slow_s=0.01)
    made = Supervisor(clock=SystemClock(), metrics=Metrics(), uniform=lambda: 0.5, policy=policy)
    yield made
    await made.stop(1.0)


def _state(supervisor: Supervisor, name: str) -> str:
    return next(view.state for view in supervisor.views() if view.name == name)


async def test_a_failing_service_is_restarted_and_its_sibling_never_notices(supervisor: Supervisor) -> None:
    log: list[str] = []
    supervisor.add(Recorded("steady", log), essential=True)
    supervisor.add(Recorded("shaky", log, failures=2), essential=True)
    supervisor.start()
    assert await supervisor.wait_ready(5.0) == ()
    assert log.count("steady runs") == 1
    assert log.count("shaky runs") == 3
    assert _state(supervisor, "shaky") == "ready"


async def test_a_service_under_which_something_was_cancelled_is_started_again(supervisor: Supervisor) -> None:
    leaning = Leaning()
    supervisor.add(leaning, essential=True)
    supervisor.start()
    async with asyncio.timeout(5):
        while leaning.runs < 2:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    assert _state(supervisor, "leaning") == "ready"


async def test_a_service_that_fails_while_it_is_removed_does_not_come_back(supervisor: Supervisor) -> None:
    untidy = Untidy()
    supervisor.add(untidy, essential=True)
    supervisor.start()
    assert await supervisor.wait_ready(5.0) == ()
    await supervisor.remove("untidy", 0.2)
    await asyncio.sleep(0.01)
    assert untidy.runs == 1


async def test_a_service_beyond_its_budget_is_retried_slowly_and_comes_back(supervisor: Supervisor) -> None:
    log: list[str] = []
    supervisor.add(Recorded("shaky", log, failures=6), essential=True)
    supervisor.start()
    assert await supervisor.wait_ready(5.0) == ()
    assert log.count("shaky runs") == 7


async def test_services_stop_in_the_opposite_order_of_their_start(supervisor: Supervisor) -> None:
    log: list[str] = []
    for name in ("store", "bus", "web"):
        supervisor.add(Recorded(name, log), essential=True)
    supervisor.start()
    assert await supervisor.wait_ready(5.0) == ()
    assert await supervisor.stop(1.0)
    assert log[-3:] == ["web stops", "bus stops", "store stops"]


async def test_a_service_that_will_not_stop_is_abandoned_after_the_deadline(supervisor: Supervisor) -> None:
    stubborn = Stubborn()
    supervisor.add(stubborn)
    supervisor.start()
    await asyncio.sleep(0)
    assert not await supervisor.stop(0.1)
    stubborn.release.set()


async def test_an_essential_service_that_is_down_is_named(supervisor: Supervisor) -> None:
    log: list[str] = []
    supervisor.add(Recorded("broken", log, failures=10_000), essential=True)
    supervisor.add(Recorded("optional", log, failures=10_000))
    supervisor.start()
    assert await supervisor.wait_ready(0.05) == ("broken",)
    assert supervisor.not_ready() == ("broken",)


async def test_a_service_that_returns_is_finished_and_not_restarted(supervisor: Supervisor) -> None:
    log: list[str] = []
    supervisor.add(Recorded("once", log, finishes=True))
    supervisor.start()
    await asyncio.sleep(0.02)
    assert _state(supervisor, "once") == "finished"
    assert log == ["once runs"]


async def test_services_join_and_leave_while_others_run(supervisor: Supervisor) -> None:
    log: list[str] = []
    supervisor.add(Recorded("first", log))
    supervisor.start()
    supervisor.add(Recorded("second", log))
    await asyncio.sleep(0.01)
    await supervisor.remove("second")
    assert log[-1] == "second stops"
    assert [view.name for view in supervisor.views()] == ["first"]


def _notify_socket(path: Path) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(path))
    receiver.settimeout(5)
    return receiver


def test_systemd_is_told_the_state_and_watched_only_where_asked(tmp_path: Path) -> None:
    with _notify_socket(tmp_path / "n") as receiver:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "3000000"})
        assert notifier.watchdog_s == 3.0
        notifier.ready("2 drivers up")
        assert receiver.recv(100) == b"READY=1\nSTATUS=2 drivers up"
        notifier.reloading(5_000_000)
        assert receiver.recv(100) == b"RELOADING=1\nMONOTONIC_USEC=5000"
        notifier.stopping()
        assert receiver.recv(100).startswith(b"STOPPING=1")
    notifier.status("the socket is gone and nobody minds")
    assert Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog_s == 0.0
    Notifier({}).ready("no service manager")


async def test_the_watchdog_is_fed_while_the_pump_moves_and_starved_when_it_stands(tmp_path: Path) -> None:
    clock = ManualClock(now_ns=10**12)
    progress_ns = clock.now_ns()
    with _notify_socket(tmp_path / "n") as receiver:
        receiver.setblocking(False)
        watchdog = Watchdog(
            notifier=Notifier({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "30000"}),
            clock=clock,
            metrics=Metrics(),
            pulses={"bus": lambda: progress_ns},
            max_age_s=5.0,
        )
        task = asyncio.create_task(watchdog.run(lambda: None))
        await asyncio.sleep(0.05)
        assert receiver.recv(100) == b"WATCHDOG=1"
        clock.advance_s(6)
        await asyncio.sleep(0.02)
        while True:
            try:
                receiver.recv(100)
            except BlockingIOError:
                break
        await asyncio.sleep(0.05)
        assert watchdog.stale() == ("bus",)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
