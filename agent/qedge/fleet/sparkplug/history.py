"""Between sessions and spool: keeps what could not be sent, gives it to sessions, erases what servers have."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.fleet.sparkplug.model import Past
from qedge.fleet.sparkplug.ports import Spool
from qedge.fleet.sparkplug.replay import BATCH_ROWS
from qedge.fleet.sparkplug.session import Session

_LOG: Final = get_logger("sparkplug")
MAX_WAITING: Final = 50_000
"""Readings that may wait in memory for the disk."""

_LOOK_S: Final = 0.25
_RETRY_S: Final = 1.0
_LAST_WRITE_S: Final = 2.0


class History:
    """`session` returns the session that may send, None where there is none; `wake` tells its writer of new rows."""

    def __init__(
        self,
        spool: Spool,
        *,
        session: Callable[[], Session | None],
        wake: Callable[[], None],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._spool = spool
        self._session = session
        self._wake = wake
        self._clock = clock
        self._metrics = metrics
        self._rows: deque[Past] = deque()
        self._erase = 0
        self._told = False
        self._changed = asyncio.Event()

    def keep(self, rows: Sequence[Past]) -> None:
        """Take readings for the spool; where too many wait for the disk the oldest are dropped."""
        self._rows.extend(rows)
        surplus = len(self._rows) - MAX_WAITING
        for _ in range(surplus):
            self._rows.popleft()
        if surplus > 0:
            self._metrics.add("qedge_sparkplug_history_total", ("dropped",), surplus)
        self._changed.set()

    def erase(self, up_to: int) -> None:
        """Take note that a server has all rows up to an id."""
        self._erase = max(self._erase, up_to)
        self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled; what waits in memory then is written first."""
        try:
            while True:
                try:
                    await self._turn()
                except QedgeError as error:
                    self._complain(error)
                    await asyncio.sleep(_RETRY_S)
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._changed.wait()
        finally:
            with contextlib.suppress(QedgeError, TimeoutError):
                async with asyncio.timeout(_LAST_WRITE_S):
                    await self._write()

    async def _turn(self) -> None:
        await self._write()
        if self._erase:
            up_to, self._erase = self._erase, 0
            try:
                await self._spool.done(up_to)
            except QedgeError:
                self.erase(up_to)  # or the next batch would be this one again
                raise
        session = self._session()
        if session is not None and session.wants_history(self._clock.now_ns()):
            batch = await self._spool.batch(BATCH_ROWS)
            session.give_history(batch, self._clock.now_ns())
            self._wake()
        self._told = False

    async def _write(self) -> None:
        while self._rows:
            rows = [self._rows.popleft() for _ in range(min(BATCH_ROWS, len(self._rows)))]
            try:
                await self._spool.keep(rows)
            except BaseException:
                self._rows.extendleft(reversed(rows))
                raise
            self._metrics.add("qedge_sparkplug_history_total", ("kept",), len(rows))

    def _complain(self, error: QedgeError) -> None:
        if not self._told:
            _LOG.warning("sparkplug.not_kept", code=error.code, waiting=len(self._rows))
        self._told = True
