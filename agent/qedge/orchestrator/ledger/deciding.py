"""Jobs of which nobody was told yet: the client's key may still stand for another one, and the client may hang up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Final

from qedge.base.errors import QedgeError
from qedge.engine.model import stopping
from qedge.orchestrator.ledger.book import Book

_LOOK_S: Final = 0.005


def unclear() -> QedgeError:
    """Say that nodes to which a request came have not agreed in time on the job that it is."""
    return QedgeError("peer.timeout", "It is not clear yet which job this request is.", fix="Send it again.")


async def is_decided(book: Book, job_id: str, limit_s: float) -> bool:
    """Wait until a job of this node stands, or is withdrawn; false where that takes longer."""
    for _ in range(max(1, round(limit_s / _LOOK_S))):
        errand = book.errands.get(job_id)
        if errand is None or not errand.undecided:
            return True
        await asyncio.sleep(_LOOK_S)
    return False


async def decided(book: Book, job_id: str, limit_s: float = 5.0) -> str:
    """Return the job of this node, or the one that stands instead of it; raises `peer.timeout`."""
    errand = book.errands.get(job_id)
    if errand is None:
        return job_id
    if not await is_decided(book, job_id, limit_s):
        raise unclear()
    return errand.overtaken or job_id


async def carried_through(group: asyncio.TaskGroup | None, accepting: Coroutine[None, None, str]) -> str:
    """Accept a job in `group`, to the end though its client hangs up: one that is half accepted would never end.

    Raises what `accepting` does, and `internal.stopping` where the group ends or there is none.
    """
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def carry() -> None:
        try:
            job_id = await accepting
            if not told.done():
                told.set_result(job_id)
        except QedgeError as error:
            if not told.done():
                told.set_exception(error)
        finally:
            if not told.done():
                told.set_exception(stopping())

    if group is None:
        accepting.close()
        raise stopping()
    group.create_task(carry())
    return await told
