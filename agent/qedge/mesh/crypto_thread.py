"""The thread for signatures and handshakes: they take milliseconds, which the event loop does not have."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

AGAIN_S: Final = 0.002
"""Four in five signatures of ML-DSA-65 take less processor time; event loops count in milliseconds."""


class CryptoThread:
    """Runs one function after the other outside the event loop."""

    def __init__(self, again_s: float = AGAIN_S) -> None:
        self._again_s = again_s
        self._executor = ThreadPoolExecutor(1, "crypto")
        self._second = ThreadPoolExecutor(1, "crypto-second")  # a thread only once it is used

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` there and return what it returns."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, functools.partial(work, *args, **kwargs)
        )

    async def run_twice(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work`, and where it has not ended within `again_s`, in a second thread as well: the first end counts.

        For what takes as long as chance has it, such as a signature, and may be done more often than once.
        """
        loop, call = asyncio.get_running_loop(), functools.partial(work, *args, **kwargs)
        tries = [loop.run_in_executor(self._executor, call)]
        try:
            ended, _ = await asyncio.wait(tries, timeout=self._again_s)
            if not ended:
                tries.append(loop.run_in_executor(self._second, call))
                ended, _ = await asyncio.wait(tries, return_when=asyncio.FIRST_COMPLETED)
            return ended.pop().result()
        finally:
            for each in tries:
                each.cancel()  # one that has begun goes on, and nobody hears of it

    def close(self) -> None:
        """Let go of the threads once they have ended what they do."""
        for executor in (self._executor, self._second):
            executor.shutdown(wait=False, cancel_futures=True)
