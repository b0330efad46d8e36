"""Has the audit log tell of updates that no command of the fleet ordered: those of root, and those of local tools.

The updater outlives the daemon that it replaces, so it keeps how updates ended in a file of its own; the daemon that
runs afterwards, whichever version that is, writes down what the log has not got.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.service import Ready
from qedge.fleet.update.disk import Disk
from qedge.fleet.update.model import EndedUpdate
from qedge.fleet.update.ports import UpdateBook

_LOOK_S: Final = 5.0


class UpdateRecorder:
    """Looks every few seconds: an update that is kept ends after its daemon has started, a refused one with none."""

    name = "update-audit"

    def __init__(self, disk: Disk, book: UpdateBook) -> None:
        self._disk = disk
        self._book = book
        self._looked: tuple[EndedUpdate, ...] = ()

    async def run(self, ready: Ready) -> None:
        """Look until cancelled."""
        ready()
        while True:
            await asyncio.sleep(_LOOK_S)
            # a disk that is full is told of by the log itself, and what could not be written is tried again
            with contextlib.suppress(QedgeError):
                await self.look()

    async def look(self) -> None:
        """Write down what is new; raises `update.bad_request`, `audit.unavailable`, `store.*`."""
        ended = await asyncio.to_thread(self._disk.read_ended)
        if ended == self._looked:
            return
        for each in newer(ended, await self._book.last()):
            if not await self._book.is_known(each.report.id):
                await self._book.keep(each)
            await self._book.seen(each.report.id)
        self._looked = ended


def newer(ended: tuple[EndedUpdate, ...], last: str) -> tuple[EndedUpdate, ...]:
    """Return what ended after the order `last`; all where that is not there any more."""
    orders = [each.report.id for each in ended]
    return ended[orders.index(last) + 1 :] if last in orders else ended
