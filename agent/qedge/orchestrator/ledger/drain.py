"""Emptying a node before maintenance: it takes nothing new, gives away what waits, and moves what runs in the end."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Final, Protocol

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.machine import StateTable
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.orchestrator.ledger.config import LedgerConfig
from qedge.orchestrator.ledger.errands import ErrandService
from qedge.orchestrator.ledger.offering import Offering
from qedge.store.store import Store
from qedge.wire.node import DrainView

_LOG: Final = get_logger("ledger")
_META: Final = "node.drained"
_TICK_S: Final = 0.1


class DrainState(StrEnum):
    """Whether a node takes jobs."""

    OPEN = "open"
    DRAINING = "draining"
    EMPTY = "empty"


class DrainEvent(StrEnum):
    """What happens to a node that is drained."""

    DRAIN = "drain"
    EMPTIED = "emptied"
    FOUND_WORK = "found_work"
    UNDO = "undo"


DRAIN_STATES: Final = StateTable(
    "drained node",
    DrainState.OPEN,
    frozenset[DrainState](),
    {
        (DrainState.OPEN, DrainEvent.DRAIN): DrainState.DRAINING,
        (DrainState.DRAINING, DrainEvent.EMPTIED): DrainState.EMPTY,
        (DrainState.EMPTY, DrainEvent.FOUND_WORK): DrainState.DRAINING,
        (DrainState.DRAINING, DrainEvent.UNDO): DrainState.OPEN,
        (DrainState.EMPTY, DrainEvent.UNDO): DrainState.OPEN,
    },
)


class Work(Protocol):
    """What the node itself still has to do."""

    def counts(self) -> tuple[int, int]:
        """Return how many jobs wait and run here."""
        ...

    def unsent(self) -> int:
        """Return how many records their other holders have not got yet."""
        ...


class DrainService:
    """Drains the node on request, and stays drained over a restart until that is undone."""

    name = "drain"

    def __init__(
        self,
        config: LedgerConfig,
        errands: ErrandService,
        offering: Offering,
        work: Work,
        store: Store,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._errands = errands
        self._offering = offering
        self._work = work
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._since_ns = 0
        self._state = DrainState.OPEN
        self._wake = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether the node takes jobs."""
        return self._state is DrainState.OPEN

    def check_open(self) -> None:
        """Raise `job.draining` where the node takes no jobs."""
        if not self.is_open:
            raise QedgeError(
                "job.draining", "This node takes no jobs: it is being drained.", fix="Submit to another node."
            )

    def view(self) -> DrainView:
        """Describe how far it is."""
        waiting, running = self._work.counts()
        return DrainView(self._state.value, waiting, running)

    async def change(self, *, undo: bool) -> DrainView:
        """Drain the node, or take jobs again; written down when this returns."""
        await self._store.set_meta(_META, "" if undo else "yes")
        self._set(drained=not undo)
        return self.view()

    def _set(self, *, drained: bool) -> None:
        if drained == self.is_open:
            self._state = DRAIN_STATES.next(self._state, DrainEvent.DRAIN if drained else DrainEvent.UNDO)
            self._errands.closed = self._offering.closed = drained
            self._since_ns = self._clock.now_ns()
            self._metrics.set("qedge_node_draining", int(drained))
            if drained:
                waiting, running = self._work.counts()
                _LOG.info("node.draining", waiting=waiting, running=running)
            else:
                _LOG.info("node.undrained")
        self._wake.set()

    async def before_stop(self) -> None:
        """Give away what can be given away before the daemon ends, for a short time."""
        if not self._config.drain_on_stop:
            return
        self._set(drained=True)
        end_ns = self._clock.now_ns() + round(self._config.drain_stop_s * 1e9)
        while self._clock.now_ns() < end_ns:
            try:
                async with asyncio.timeout(max(0.01, (end_ns - self._clock.now_ns()) / 1e9)):
                    await self._errands.give_back(running=(end_ns - self._clock.now_ns()) < self._half_ns())
            except TimeoutError:
                return
            if not self._errands.waiting() and not self._work.unsent():
                return
            await asyncio.sleep(_TICK_S / 4)

    def _half_ns(self) -> int:
        return round(self._config.drain_stop_s * 5e8)

    async def run(self, ready: Ready) -> None:
        """Go on with what an operator wanted before a restart; empty the node whenever that is wanted."""
        if await self._store.get_meta(_META):
            self._set(drained=True)
        ready()
        while True:
            self._wake.clear()
            if self.is_open:
                await self._wake.wait()
                continue
            late = self._clock.now_ns() - self._since_ns >= self._config.drain_limit_s * 1e9
            await self._errands.give_back(running=late)
            waiting, running = self._work.counts()
            if self._state is DrainState.DRAINING and not waiting + running:
                self._state = DRAIN_STATES.next(self._state, DrainEvent.EMPTIED)
                _LOG.info("node.drained", left=0)
            elif self._state is DrainState.EMPTY and waiting + running:
                self._state = DRAIN_STATES.next(self._state, DrainEvent.FOUND_WORK)
            await asyncio.sleep(_TICK_S)
