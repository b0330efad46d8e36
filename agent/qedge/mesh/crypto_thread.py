"""The thread for signatures and handshakes: they take milliseconds, which the event loop does not have."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class CryptoThread:
    """Runs one function after the other outside the event loop."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "crypto")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` there and return what it returns."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, functools.partial(work, *args, **kwargs)
        )

    def close(self) -> None:
        """Let go of the thread once it has ended what it does."""
        self._executor.shutdown(wait=False, cancel_futures=True)
