"""Runs services: back-off, restart budget, readiness, ordered stop; and feeds the watchdog while all is alive.

One failing service never stops its siblings. A service that uses up its budget is not abandoned: it is retried at a
slow pace and shown as such, because an edge box has nobody beside it who would start it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from qedge.base.backoff import Backoff
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Service
from qedge.base.systemd import Notifier
from qedge.wire.node import ServiceView

_LOG: Final = get_logger("supervisor")
_WAITING_LIMIT_S: Final = 2.0
"""How long services that may begin later wait for those that the node waits for."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """`budget` restarts within `window_s` seconds are paced by `backoff`, any further by `slow_s` seconds."""

    backoff: Backoff = field(default_factory=lambda: Backoff(base_s=0.2, cap_s=5.0))
    budget: int = 8
    window_s: float = 60.0
    slow_s: float = 15.0


@dataclass(slots=True)
class _Entry:
    service: Service
    essential: bool
    later: bool = False
    state: str = "starting"
    error: str = ""
    restarts: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    failures_ns: list[int] = field(default_factory=list)
    stopping: bool = False
    """Whether it was told to end; however it ends then, it is not started again."""


class Supervisor:
    """Keeps services running in the order they were added and stops them in the opposite order."""

    def __init__(
        self,
        *,
        clock: Clock,
        metrics: Metrics,
        uniform: Callable[[], float],
        policy: RestartPolicy = RestartPolicy(),
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._uniform = uniform
        self._policy = policy
        self._entries: dict[str, _Entry] = {}
        self._running = False
        self._latecomers: asyncio.Task[None] | None = None

    def add(self, service: Service, *, essential: bool = False, later: bool = False) -> None:
        """Take on a service; `essential` ones are waited for by `wait_ready`. Starts it at once while running.

        Otherwise one that may begin `later` gets its turn when those are ready: what starts processes would take the
        processors from them.
        """
        if service.name in self._entries:
            raise ValueError(f"service {service.name} is there already")
        entry = _Entry(service, essential, later)
        self._entries[service.name] = entry
        if self._running:
            self._start(entry)

    def start(self) -> None:
        """Start everything that was added."""
        self._running = True
        for entry in self._entries.values():
            if not entry.later:
                self._start(entry)
        self._latecomers = asyncio.get_running_loop().create_task(self._start_others())

    async def _start_others(self) -> None:
        await self.wait_ready(_WAITING_LIMIT_S)
        for entry in self._entries.values():
            if entry.task is None:
                self._start(entry)

    async def wait_ready(self, timeout_s: float) -> tuple[str, ...]:
        """Wait for all essential services and return the names of those not ready in time (empty: all are)."""
        waiting = {name: entry for name, entry in self._entries.items() if entry.essential}
        try:
            async with asyncio.timeout(timeout_s):
                for entry in waiting.values():
                    await entry.ready.wait()
        except TimeoutError:
            pass
        return tuple(name for name, entry in waiting.items() if not entry.ready.is_set())

    def is_ready(self, name: str) -> bool:
        """Say whether a service is up now."""
        entry = self._entries.get(name)
        return entry is not None and entry.state == "ready"

    def not_ready(self) -> tuple[str, ...]:
        """Return the names of the essential services that are not up now."""
        return tuple(name for name, entry in self._entries.items() if entry.essential and entry.state != "ready")

    def views(self) -> tuple[ServiceView, ...]:
        """Describe all services."""
        return tuple(
            ServiceView(name=name, state=entry.state, restarts=entry.restarts, error=entry.error)
            for name, entry in self._entries.items()
        )

    async def remove(self, name: str, timeout_s: float = 2.0) -> None:
        """Stop one service and forget it; unknown names are ignored."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            await self._stop(name, entry, timeout_s)
            self._metrics.forget("qedge_service_up", (name,))

    async def stop(self, timeout_s: float) -> bool:
        """Stop all services, the last added first, within `timeout_s` seconds; False where one had to be abandoned."""
        self._running = False
        if self._latecomers is not None:
            self._latecomers.cancel()
        deadline_ns = self._clock.now_ns() + round(timeout_s * 1e9)
        clean = True
        for name, entry in reversed(self._entries.items()):
            left_s = max(0.1, (deadline_ns - self._clock.now_ns()) / 1e9)
            clean = await self._stop(name, entry, left_s) and clean
        return clean

    def _start(self, entry: _Entry) -> None:
        entry.task = asyncio.get_running_loop().create_task(self._keep(entry), name=f"service:{entry.service.name}")

    async def _stop(self, name: str, entry: _Entry, timeout_s: float) -> bool:
        entry.stopping = True
        if entry.task is None:
            return True
        entry.task.cancel()
        done, _ = await asyncio.wait({entry.task}, timeout=timeout_s)
        entry.state = "stopped"
        self._metrics.set("qedge_service_up", 0, (name,))
        if not done:
            _LOG.error("service.stop_timeout", service=name)
        return bool(done)

    async def _keep(self, entry: _Entry) -> None:
        name = entry.service.name
        while True:
            entry.state = "starting"
            try:
                await entry.service.run(lambda: self._mark_ready(entry))
            except asyncio.CancelledError:
                if entry.stopping or _cancelled_from_outside():
                    raise
                # something that it waited for was cancelled under it: nobody asked the service itself to end
                delay_s = self._note_failure(entry, RuntimeError("what it waited for was cancelled"))
            except Exception as error:  # noqa: BLE001 - whatever a service raises, its siblings go on
                if entry.stopping:
                    _LOG.warning("service.failed", service=name, code=_code(error), error=str(error), delay_s=0.0)
                    return
                delay_s = self._note_failure(entry, error)
            else:
                entry.state = "finished"
                self._metrics.set("qedge_service_up", 0, (name,))
                _LOG.info("service.finished", service=name)
                return
            await asyncio.sleep(delay_s)
            entry.restarts += 1
            self._metrics.add("qedge_service_restarts_total", (name,))

    def _mark_ready(self, entry: _Entry) -> None:
        if entry.state != "ready":
            entry.state = "ready"
            entry.error = ""
            entry.ready.set()
            self._metrics.set("qedge_service_up", 1, (entry.service.name,))
            _LOG.info("service.ready", service=entry.service.name)

    def _note_failure(self, entry: _Entry, error: Exception) -> float:
        name, policy, now_ns = entry.service.name, self._policy, self._clock.now_ns()
        horizon_ns = now_ns - round(policy.window_s * 1e9)
        entry.failures_ns = [at_ns for at_ns in entry.failures_ns if at_ns > horizon_ns] + [now_ns]
        entry.state = "backoff"
        entry.error = str(error) or type(error).__name__
        self._metrics.set("qedge_service_up", 0, (name,))
        if len(entry.failures_ns) > policy.budget:
            _LOG.error("service.given_up", service=name)
            delay_s = policy.slow_s
        else:
            delay_s = policy.backoff.delay_s(len(entry.failures_ns) - 1, self._uniform())
        _LOG.warning(
            "service.failed",
            service=name,
            code=_code(error),
            error=entry.error,
            kind=type(error).__name__,
            delay_s=round(delay_s, 3),
        )
        return delay_s


def _code(error: Exception) -> str:
    return error.code if isinstance(error, QedgeError) else "internal.unexpected"


def _cancelled_from_outside() -> bool:
    """Say whether somebody cancelled the running task, and not only something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Watchdog:
    """Feeds systemd's watchdog while the loop runs and every `Pulse` moved lately; measures how late the loop is.

    A blocked loop starves it by itself. A dead broker does not: the pump's pulse counts backing off as progress.
    """

    name = "watchdog"

    def __init__(
        self,
        *,
        notifier: Notifier,
        clock: Clock,
        metrics: Metrics,
        pulses: dict[str, Callable[[], int]],
        max_age_s: float,
    ) -> None:
        self._notifier = notifier
        self._clock = clock
        self._metrics = metrics
        self._pulses = pulses
        self._max_age_s = max_age_s

    def stale(self) -> tuple[str, ...]:
        """Return the names of the pulses (boot-time nanoseconds of last progress) that are too old."""
        oldest_ns = self._clock.now_ns() - round(self._max_age_s * 1e9)
        return tuple(name for name, progress_ns in self._pulses.items() if progress_ns() < oldest_ns)

    async def run(self, ready: Callable[[], None]) -> None:
        """Feed until cancelled."""
        ready()
        interval_s = min(1.0, self._notifier.watchdog_s / 3) if self._notifier.watchdog_s else 1.0
        while True:
            before_ns = self._clock.now_ns()
            await asyncio.sleep(interval_s)
            lag_s = (self._clock.now_ns() - before_ns) / 1e9 - interval_s
            self._metrics.observe("qedge_loop_lag_seconds", max(0.0, lag_s))
            stale = self.stale()
            if stale:
                _LOG.error("watchdog.starved", reason=", ".join(stale))
            elif self._notifier.watchdog_s:
                self._notifier.watchdog()
