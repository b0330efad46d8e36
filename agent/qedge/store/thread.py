"""The thread that owns the connection to the database, and how work gets there and back.

An executor would do, but its way there and back takes longer than most of the queries. Transactions that wait for the
thread at the same time are committed together: a commit costs one sync of the disk, however much is in it. Those that
nobody waits for are `patient`: all others go first, though a bounded number of times. Decision 0124.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar, cast

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], object]
_MOST_TOGETHER: Final = 64
_MOST_PATIENT: Final = 4
"""Patient ones in one commit: whoever comes meanwhile waits for all of them."""
_MOST_OVERTAKEN: Final = 8
"""How often others go first while patient ones wait; then one of these goes with them."""


class _Asked(NamedTuple):
    """Something to do for whoever waits for `answer` in the event loop; `durable`: in a transaction."""

    work: Work
    answer: asyncio.Future[object]
    durable: bool
    patient: bool


_Done = tuple[asyncio.Future[object], object, BaseException | None]


class StoreThread:
    """Runs work on the connection that `connect` opens, in the order in which it is asked for, but patient work last.

    Raises what `connect` raises. Work that nobody waits for any more when its turn comes is left out.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._turns = _Turns(self._asked)
        self._opened = threading.Event()
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(connect,), name="qedge-store", daemon=True)
        self._thread.start()
        self._opened.wait()
        for error in self._errors:
            self._thread.join()
            raise error

    async def write(self, work: Callable[[sqlite3.Connection], T], *, patient: bool = False) -> T:
        """Run `work` in a durable transaction; where it raises, nothing changed."""
        return await self._ask(work, durable=True, patient=patient)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` without a transaction."""
        return await self._ask(work, durable=False, patient=False)

    async def _ask(self, work: Callable[[sqlite3.Connection], T], *, durable: bool, patient: bool) -> T:
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if not self._thread.is_alive():
            raise sqlite3.ProgrammingError("the database is closed")
        self._asked.put(_Asked(work, answer, durable, patient))
        return cast("T", await answer)

    def close(self) -> None:
        """Finish what was begun and close the connection."""
        self._asked.put(None)
        self._thread.join()

    def _run(self, connect: Callable[[], sqlite3.Connection]) -> None:
        try:
            connection = connect()
        except BaseException as error:  # noqa: BLE001 - whoever made this thread raises it
            self._errors.append(error)
            return
        finally:
            self._opened.set()
        with contextlib.closing(connection):
            while asked := self._turns.next():
                for durable, group in itertools.groupby(asked, lambda each: each.durable):
                    if durable:
                        _deliver(_commit(connection, list(group)))
                    else:
                        for each in group:
                            _deliver([_look(connection, each)])


class _Turns:
    """Who is next. What comes while some are served is taken the next time."""

    def __init__(self, asked: queue.SimpleQueue[_Asked | None]) -> None:
        self._asked = asked
        self._first: deque[_Asked] = deque()
        self._patient: deque[_Asked] = deque()
        self._overtaken = 0
        self._ends = False

    def next(self) -> list[_Asked]:
        """Wait until there is something to do; nothing once all is done after the end was asked for."""
        if not (self._ends or self._first or self._patient):
            self._take(self._asked.get())
        with contextlib.suppress(queue.Empty):
            while len(self._first) < _MOST_TOGETHER:
                self._take(self._asked.get_nowait())
        if not self._first:
            self._overtaken = 0
            return _heads(self._patient, _MOST_PATIENT)
        found = _heads(self._first, _MOST_TOGETHER)
        self._overtaken = self._overtaken + 1 if self._patient else 0
        if self._overtaken > _MOST_OVERTAKEN:
            self._overtaken = 0
            found.append(self._patient.popleft())
        return found

    def _take(self, asked: _Asked | None) -> None:
        if asked is None:
            self._ends = True
        else:
            (self._patient if asked.patient else self._first).append(asked)


def _heads(waiting: deque[_Asked], most: int) -> list[_Asked]:
    return [waiting.popleft() for _ in range(min(most, len(waiting)))]


def _look(connection: sqlite3.Connection, asked: _Asked) -> _Done:
    if asked.answer.cancelled():
        return asked.answer, None, None
    try:
        return asked.answer, asked.work(connection), None
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
        return asked.answer, None, error


def _commit(connection: sqlite3.Connection, together: Sequence[_Asked]) -> list[_Done]:
    """Run transactions in one; each that raises leaves nothing behind, and a commit that fails fails all of them."""
    wanted = [asked for asked in together if not asked.answer.cancelled()]
    if len(wanted) == 1:
        only = wanted[0]
        return [_look(connection, only._replace(work=lambda connection: transact(connection, only.work)))]
    done: list[_Done] = []
    found: _Done | None = None
    try:
        connection.execute("BEGIN IMMEDIATE")
        for asked in wanted:
            connection.execute("SAVEPOINT one")
            found = _look(connection, asked)
            if found[2] is not None:
                # a full disk may have rolled back everything already, and then this raises
                connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
            done.append(found)
        connection.execute("COMMIT")
    except BaseException as error:  # noqa: BLE001 - it belongs to all who asked
        cause = found[2] if found is not None and found[2] is not None and not connection.in_transaction else error
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        return [(asked.answer, None, cause) for asked in wanted]
    return done


def transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` in one transaction, which is rolled back where it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    return result


def _deliver(done: Sequence[_Done]) -> None:
    """Hand answers to those who wait, by one wake-up of their loop."""
    if done:
        # a loop that is closed has nobody who waits
        with contextlib.suppress(RuntimeError):
            done[0][0].get_loop().call_soon_threadsafe(_settle, done)


def _settle(done: Sequence[_Done]) -> None:
    for answer, result, error in done:
        if answer.done():
            continue
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)
