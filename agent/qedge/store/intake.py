"""From memory to the disk: `put` never waits, and whoever must know is told once its items are there.

Items wait in a bounded queue of classes and are written in transactions of many. Where the disk is full they go on
waiting, in their order, but for those of urgent classes, which are written with what the store has in reserve.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from qedge.base.errors import QedgeError
from qedge.base.lanes import Lanes
from qedge.store.store import Store

C = TypeVar("C", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
MAX_BATCH: Final = 8192
"""Most items in a transaction."""

_RETRY_S: Final = 1.0


class Append(Protocol[C, T_contra, R_co]):
    """Writes items in one transaction and says what changed; runs in the store's thread."""

    def __call__(self, connection: sqlite3.Connection, *, batch: Mapping[C, Sequence[T_contra]]) -> R_co:
        """Write."""
        ...


class Intake(Generic[C, T, R]):
    """Takes items and writes them. `written` learns what a transaction changed, `gave_way` what memory had to drop."""

    def __init__(
        self,
        store: Store,
        queue: Lanes[C, T],
        append: Append[C, T, R],
        *,
        written: Callable[[R], None],
        gave_way: Callable[[C, int], None],
        failed: Callable[[QedgeError], None],
        urgent: Collection[C] = (),
    ) -> None:
        self._store = store
        self._queue = queue
        self._append = append
        self._on_written = written
        self._gave_way = gave_way
        self._on_failed = failed
        self._urgent = frozenset(urgent)
        self._dropped = dict(queue.dropped)
        self._filled = asyncio.Event()
        self._taken = dict.fromkeys(queue.waiting(), 0)
        self._writing = False
        self._waiters: deque[tuple[dict[C, int], Callable[[], None]]] = deque()

    def __len__(self) -> int:
        """Return how many items wait in memory."""
        return len(self._queue)

    def put(self, lane: C, item: T) -> bool:
        """Take an item; False where it had to be dropped. On the disk once `settled` returns."""
        kept = self._queue.put(lane, item)
        self._taken[lane] += kept
        self._filled.set()
        return kept

    async def settled(self) -> None:
        """Return when everything that was put before is on the disk, or had to give way."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.when_safe(lambda: None if future.done() else future.set_result(None)):
            await future

    def when_safe(self, then: Callable[[], None]) -> bool:
        """Return True where all that was put is on the disk; otherwise False, and call `then` once it is."""
        if not self._writing and not len(self._queue):
            return True
        self._waiters.append((dict(self._taken), then))
        return False

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while len(self._queue):
                if not await self._write(self._queue.take_many(MAX_BATCH)):
                    urgent = self._queue.take_of(self._urgent)
                    if urgent:
                        await self._write(urgent, accepted=True)
                    await asyncio.sleep(_RETRY_S)
                    self._store.look_again()
            self._settle()

    async def drain(self) -> None:
        """Write once what waits in memory; for the end of a service."""
        if len(self._queue):
            await self._write(self._queue.take_many(MAX_BATCH * 16))

    async def _write(self, batch: Mapping[C, Sequence[T]], *, accepted: bool = False) -> bool:
        """Write what was taken from memory in one transaction; says whether it is on the disk."""
        # Who is cancelled here must know whether its items were written, or they would be lost, or there twice.
        writing = asyncio.ensure_future(self._store.write(partial(self._append, batch=batch), accepted=accepted))
        cancelled, self._writing = False, True
        while not writing.done():
            try:
                await asyncio.wait({writing})
            except asyncio.CancelledError:
                cancelled = True
        self._writing = False
        written = self._written_down(writing, batch)
        if cancelled:
            raise asyncio.CancelledError
        return written

    def _written_down(self, writing: asyncio.Future[R], batch: Mapping[C, Sequence[T]]) -> bool:
        error = writing.exception()
        if error is not None:
            self._put_back(batch)
            if not isinstance(error, QedgeError):
                raise error
            self._on_failed(error)
            return False
        self._on_written(writing.result())
        self._settle()
        return True

    def _put_back(self, batch: Mapping[C, Sequence[T]]) -> None:
        before = self._queue.waiting()
        self._queue.put_back(batch)
        for lane, number in self._queue.waiting().items():
            # what gave way may be the newest of its class: those that wait for the ones before it wait on
            self._taken[lane] -= before[lane] + len(batch.get(lane, ())) - number

    def _settle(self) -> None:
        """Tell those who wait that what they put is safe, as soon as nothing of it is in memory.

        Classes overtake each other on the way to the disk, so they are counted one by one.
        """
        for lane, total in self._queue.dropped.items():
            if total > self._dropped[lane]:
                self._gave_way(lane, total - self._dropped[lane])
            self._dropped[lane] = total
        if not self._waiters:
            return
        inside = {lane: number for lane, number in self._queue.waiting().items() if number}
        while self._waiters and all(
            self._waiters[0][0][lane] <= self._taken[lane] - number for lane, number in inside.items()
        ):
            self._waiters.popleft()[1]()
