"""Work that is only worth doing where something lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class Later:
    """Something to be done unless it is over before `delay_s` seconds have passed."""

    def __init__(self, delay_s: float, begin: Callable[[], Coroutine[None, None, None]]) -> None:
        self._begin = begin
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._start)

    def _start(self) -> None:
        self._task = asyncio.ensure_future(self._begin())

    def drop(self) -> None:
        """Do not begin any more."""
        self._timer.cancel()

    async def settle(self) -> None:
        """Do not begin any more; wait where it has begun."""
        self._timer.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
