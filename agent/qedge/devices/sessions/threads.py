"""The threads for public-key operations: they take from a tenth of a millisecond to several, which the loop has not."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from qedge.base.errors import QedgeError

P = ParamSpec("P")
T = TypeVar("T")


class PublicKeyThreads:
    """Runs functions outside the event loop, at most `waiting` of them at a time, under way or in line."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(threads, "devices")
        self._waiting = waiting
        self._now = 0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` and return what it returns; raises `device.busy` where too many wait."""
        if self._now >= self._waiting:
            raise QedgeError("device.busy", "Too many devices want something that takes time.", fix="Come back later.")
        self._now += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, functools.partial(work, *args, **kwargs)
            )
        finally:
            self._now -= 1

    def close(self) -> None:
        """Let go of the threads once they have ended what they do."""
        self._executor.shutdown(wait=False, cancel_futures=True)
