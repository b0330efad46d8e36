"""Installed drivers, described without a daemon and without importing any of them in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib import metadata
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.workers.model import Msg, WorkerSpec
from qedge.workers.process import WorkerProcess
from qedge_driver_api import ENTRY_POINT_GROUP

DESCRIBE_DEADLINE_S: Final = 30.0


def installed() -> tuple[str, ...]:
    """Return the names of all installed drivers, sorted."""
    return tuple(sorted({entry.name for entry in metadata.entry_points(group=ENTRY_POINT_GROUP)}))


async def describe_drivers(
    names: Iterable[str], *, clock: Clock, random_bytes: RandomBytes
) -> dict[str, dict[str, Msg] | QedgeError]:
    """Describe drivers in a short-lived worker each; a driver that cannot be described gives its error."""
    limit = asyncio.Semaphore(2)

    async def one(name: str) -> dict[str, Msg] | QedgeError:
        async with limit:
            spec = WorkerSpec(f"describe-{name}", "qedge.workers.driver_host:Describer")
            worker = WorkerProcess(spec, clock=clock, random_bytes=random_bytes)
            try:
                await worker.start()
                answer = await worker.call("describe", {"driver": name}, deadline_s=DESCRIBE_DEADLINE_S)
            except QedgeError as error:
                return error
            finally:
                await worker.close()
            return (
                answer if isinstance(answer, dict) else QedgeError("worker.bad_answer", f"{name} has no description.")
            )

    wanted = sorted(set(names))
    return dict(zip(wanted, await asyncio.gather(*(one(name) for name in wanted)), strict=True))
