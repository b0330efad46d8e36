"""A set of like workers: calls go to any that is free, the dead are replaced, spares stand warm."""

from __future__ import annotations

import asyncio
import itertools
from bisect import insort
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from qedge.base.backoff import Backoff
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.wire.node import WorkerView
from qedge.workers.model import WORKER_STATES, Msg, WorkerEvent, WorkerSpec, WorkerState
from qedge.workers.process import WorkerProcess

_LOG: Final = get_logger("workers")
_CHECK_S: Final = 2.0
_LAST: Final = 2
"""The rank of calls that have time, and run with a small share of the processor."""
_STEADY_S: Final = 30.0
"""A worker that lived this long starts anew without counting its earlier failures."""
_LEAST_S: Final = 0.5
"""Time that a worker gets for a call in any case, however long the call waited for it."""

Prepare = Callable[[WorkerProcess], Awaitable[None]]
"""Makes a fresh worker fit for calls (opens its driver); raises where it cannot."""


@dataclass(slots=True)
class _Slot:
    name: str
    state: WorkerState = WorkerState.STARTING
    process: WorkerProcess | None = None
    restarts: int = 0
    failures: int = 0
    error: QedgeError | None = None
    lowered: bool = False
    """Whether its process has run batch jobs, with the little share of the processor that they get."""


@dataclass(order=True, slots=True)
class _Waiter:
    """A call that waits for a worker: a lower `rank` goes first, then whoever came first."""

    rank: int
    turn: int
    light: bool = field(compare=False)
    found: asyncio.Future[_Slot] = field(compare=False)


class WorkerPool:
    """`size` workers run calls, `spares` more stand ready so that a death costs no start-up time.

    Any ready worker may take a call; at most `size` run at once. The service is ready at once: nobody waits for workers
    but those who call them, each until its own deadline.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        size: int,
        spares: int,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
        uniform: Callable[[], float],
        prepare: Prepare | None = None,
        on_change: Callable[[], None] = lambda: None,
        backoff: Backoff = Backoff(base_s=0.1, cap_s=10.0),  # noqa: B008 - frozen
    ) -> None:
        self._spec = spec
        self._size = size
        self._clock = clock
        self._metrics = metrics
        self._random_bytes = random_bytes
        self._uniform = uniform
        self._prepare = prepare
        self._on_change = on_change
        self._backoff = backoff
        self._slots = [_Slot(f"{spec.name}-{index}") for index in range(size + spares)]
        self._running = 0
        self._waiting: list[_Waiter] = []
        self._turns = itertools.count()

    @property
    def name(self) -> str:
        """Name of the service."""
        return f"workers-{self._spec.name}"

    @property
    def is_up(self) -> bool:
        """Say whether at least one worker can take or runs a call."""
        return any(slot.state in (WorkerState.READY, WorkerState.BUSY) for slot in self._slots)

    @property
    def last_error(self) -> QedgeError | None:
        """Return why the newest failed start failed; None once a worker is ready again."""
        return next((slot.error for slot in self._slots if slot.error is not None), None)

    def views(self) -> tuple[WorkerView, ...]:
        """Describe all workers; those beyond the ones that work are shown as spares."""
        ready = [slot for slot in self._slots if slot.state is WorkerState.READY]
        busy = sum(slot.state is WorkerState.BUSY for slot in self._slots)
        spare = {id(slot) for slot in ready[max(0, self._size - busy) :]}
        return tuple(
            WorkerView(
                name=slot.name,
                state=slot.state.value,
                pid=slot.process.pid if slot.process is not None and slot.process.is_alive else 0,
                restarts=slot.restarts,
                spare=id(slot) in spare,
            )
            for slot in self._slots
        )

    async def call(
        self, method: str, args: Mapping[str, Msg], *, deadline_s: float, light: bool = False, rank: int = 1
    ) -> Msg:
        """Run one method on a free worker; waiting for one counts towards the deadline.

        `light` calls (parsing, health) may also use a spare, so that they do not stand behind a long run. Of those that
        wait the lowest `rank` goes first; calls of rank 2 keep to the same workers where they can, since these get less
        of the processor from then on.
        """
        deadline_ns = self._clock.now_ns() + round(deadline_s * 1e9)
        slot = await self._acquire(deadline_s, light, rank)
        outcome = "ok"
        try:
            process = slot.process
            if process is None:
                raise self._unavailable()
            # a worker that was given no time would be killed for the time that others took
            left_s = max(min(_LEAST_S, deadline_s), (deadline_ns - self._clock.now_ns()) / 1e9)
            return await process.call(method, args, deadline_s=left_s)
        except QedgeError as error:
            outcome = error.code
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._metrics.add("qedge_worker_calls_total", (self._spec.name, outcome))
            self._release(slot, light)

    async def call_each(self, method: str, args: Mapping[str, Msg], *, deadline_s: float) -> list[Msg]:
        """Run one method on every worker that is up, idle or not in turn; raises the first error."""
        processes = [slot.process for slot in self._slots if slot.process is not None and slot.process.is_alive]
        return list(await asyncio.gather(*(p.call(method, args, deadline_s=deadline_s) for p in processes)))

    def only_process(self) -> WorkerProcess:
        """Return the process of a pool of one, to speak to it in streams; raises `worker.unavailable` without one."""
        slot = self._slots[0]
        if slot.process is None or slot.state not in (WorkerState.READY, WorkerState.BUSY):
            raise self._unavailable()
        return slot.process

    async def restart(self, reason: str) -> None:
        """Kill every worker; each comes back by itself with whatever `prepare` now does."""
        await asyncio.gather(*(slot.process.kill(reason) for slot in self._slots if slot.process is not None))

    async def run(self, ready: Ready) -> None:
        """Keep all workers alive until cancelled."""
        for slot in self._slots:
            slot.state = WORKER_STATES.initial  # they were stopped, where the service comes back
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self._slots:
                    group.create_task(self._keep(slot))
        finally:
            for slot in self._slots:
                if WORKER_STATES.allows(slot.state, WorkerEvent.STOPPED):
                    self._step(slot, WorkerEvent.STOPPED)

    async def _keep(self, slot: _Slot) -> None:
        while True:
            reason = await self._live(slot)
            self._step(slot, WorkerEvent.DIED)
            slot.restarts += 1
            self._metrics.add("qedge_worker_restarts_total", (slot.name, reason.split(" ")[0]))
            delay_s = 0.0 if reason == "recycled" else self._backoff.delay_s(slot.failures, self._uniform())
            slot.failures += 1
            await asyncio.sleep(delay_s)
            self._step(slot, WorkerEvent.RESTARTED)

    async def _live(self, slot: _Slot) -> str:
        """Run one process from start to death and return why it died."""
        process = slot.process = WorkerProcess(self._spec, clock=self._clock, random_bytes=self._random_bytes)
        started_ns = self._clock.now_ns()
        try:
            await process.start()
            if self._prepare is not None:
                await self._prepare(process)
        except (QedgeError, OSError) as error:
            # a host that has no memory, process or file for one more must not lose the workers that it has
            slot.error = error if isinstance(error, QedgeError) else not_started(slot.name, error)
            await process.close()
            return "start"
        except BaseException:
            await process.close()
            raise
        try:
            slot.error, slot.lowered = None, False
            self._step(slot, WorkerEvent.PREPARED)
            start_s = (self._clock.now_ns() - started_ns) / 1e9
            _LOG.info("worker.started", worker=slot.name, pid=process.pid, start_s=round(start_s, 3))
            self._wake()
            reason = await self._watch(slot, process)
            _LOG.warning("worker.died", worker=slot.name, pid=process.pid, exit=reason)
            if (self._clock.now_ns() - started_ns) / 1e9 > _STEADY_S:
                slot.failures = 0
            return reason
        finally:
            await process.close()

    async def _watch(self, slot: _Slot, process: WorkerProcess) -> str:
        dead = asyncio.ensure_future(process.wait_dead())
        try:
            while True:
                done, _ = await asyncio.wait({dead}, timeout=_CHECK_S)
                if done:
                    return dead.result()
                self._metrics.set("qedge_worker_memory_bytes", process.resident_bytes, (slot.name,))
                if slot.state is not WorkerState.READY:
                    continue  # a kernel may hold the interpreter for seconds; its call's deadline decides
                if process.silent_s > self._spec.heartbeat_timeout_s:
                    await process.kill("silent")
                elif process.calls >= self._spec.max_calls:
                    await process.kill("recycled")
        finally:
            dead.cancel()

    async def _acquire(self, deadline_s: float, light: bool, rank: int) -> _Slot:
        slot = self._free_slot(light, rank)
        if slot is not None:
            return self._take(slot, light, rank)
        waiter = _Waiter(rank, next(self._turns), light, asyncio.get_running_loop().create_future())
        insort(self._waiting, waiter)
        try:
            async with asyncio.timeout(deadline_s):
                return await waiter.found
        except BaseException as error:
            if waiter.found.done() and not waiter.found.cancelled():
                self._release(waiter.found.result(), light)  # it came in the moment when nobody wanted it any more
            if isinstance(error, TimeoutError):
                raise self._unavailable() from None
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _take(self, slot: _Slot, light: bool, rank: int) -> _Slot:
        self._step(slot, WorkerEvent.CALLED)
        self._running += not light
        slot.lowered |= rank >= _LAST and not light
        return slot

    def _release(self, slot: _Slot, light: bool) -> None:
        self._running -= not light
        if slot.state is WorkerState.BUSY and slot.process is not None and slot.process.is_alive:
            self._step(slot, WorkerEvent.ANSWERED)
        self._wake()

    def _free_slot(self, light: bool, rank: int) -> _Slot | None:
        if not light and self._running >= self._size:
            return None
        last = rank >= _LAST
        ready = [slot for slot in self._slots if slot.state is WorkerState.READY]
        if last and not light and sum(slot.lowered for slot in self._slots) >= self._size:
            ready = [slot for slot in ready if slot.lowered]  # a spare keeps its full share for those who need it
        return min(ready, key=lambda slot: slot.lowered is not last, default=None)

    def _wake(self) -> None:
        """Give free workers to those who wait, in their order."""
        for waiter in list(self._waiting):
            slot = self._free_slot(waiter.light, waiter.rank)
            if slot is not None and not waiter.found.done():
                self._waiting.remove(waiter)
                waiter.found.set_result(self._take(slot, waiter.light, waiter.rank))

    def _unavailable(self) -> QedgeError:
        return self.last_error or QedgeError(
            "worker.unavailable",
            f"No worker of {self._spec.name} was free in time.",
            fix="Try again; `qedge drivers list` shows how the driver is.",
        )

    def _step(self, slot: _Slot, event: WorkerEvent) -> None:
        slot.state = WORKER_STATES.next(slot.state, event)
        up = slot.state in (WorkerState.READY, WorkerState.BUSY)
        self._metrics.set("qedge_worker_up", 1.0 if up else 0.0, (slot.name,))
        if event not in (WorkerEvent.CALLED, WorkerEvent.ANSWERED, WorkerEvent.STOPPED):
            self._on_change()


def not_started(name: str, error: OSError) -> QedgeError:
    """Say why the host made no process of a worker."""
    return QedgeError(
        "worker.unavailable",
        f"The worker {name} cannot be started: {error.strerror or error}.",
        fix="Look at the memory, the processes and the open files of the host; it is tried again.",
    )
