"""What hosts may do with the node itself, and the metrics that show it: scan rate, next server, the last command."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.fleet.sparkplug.model import (
    DEVICE_REBIRTH,
    LAST_COMMAND,
    NEXT_SERVER,
    SCAN_RATE,
    DataType,
    Reading,
    Snapshot,
    Write,
)
from qedge.fleet.sparkplug.ports import Controls

_LOG: Final = get_logger("sparkplug")
MAX_WAITING: Final = 64
MIN_SAMPLE_MS: Final = 100
MAX_SAMPLE_MS: Final = 3_600_000
_LIMIT_S: Final = 30.0


class NodeControl:
    """Carries out writes one after the other, with a time limit each."""

    def __init__(
        self,
        writable: frozenset[str],
        controls: Controls,
        *,
        sample_s: float,
        next_server: Callable[[], None],
        changed: Callable[[], None],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """`changed` is called after every command, so that its outcome is told at once."""
        self._writable = writable
        self._controls = controls
        self._sample_ms = round(sample_s * 1000)
        self._next_server = next_server
        self._changed = changed
        self._metrics = metrics
        self._clock = clock
        self._since_ms = clock.utc_ns() // 1_000_000
        self._last = ""
        self._waiting: asyncio.Queue[Write] = asyncio.Queue(MAX_WAITING)
        self._rate_changed = asyncio.Event()

    def with_own(self, snapshot: Snapshot) -> Snapshot:
        """Add the metrics that stand for what hosts may do; none where they may do nothing."""
        if not self._writable:
            return snapshot
        own = {LAST_COMMAND: Reading(DataType.STRING, self._last, self._since_ms)}
        if NEXT_SERVER in self._writable:
            own[NEXT_SERVER] = Reading(DataType.BOOLEAN, False, self._since_ms)
        if SCAN_RATE in self._writable:
            own[SCAN_RATE] = Reading(DataType.INT64, self._sample_ms, self._since_ms)
        devices = snapshot.devices
        if DEVICE_REBIRTH in self._writable:
            again = {DEVICE_REBIRTH: Reading(DataType.BOOLEAN, False, self._since_ms)}
            devices = {name: {**again, **readings} for name, readings in devices.items()}
        return Snapshot({**own, **snapshot.node}, devices)

    def submit(self, write: Write) -> None:
        """Take a write; too many at once have no effect."""
        try:
            self._waiting.put_nowait(write)
        except asyncio.QueueFull:
            self._end(write, "busy")

    async def next_sample(self) -> None:
        """Wait until readings are to be looked at again."""
        self._rate_changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._sample_ms / 1000):
                await self._rate_changed.wait()

    async def run(self) -> None:
        """Carry out writes until cancelled."""
        while True:
            write = await self._waiting.get()
            try:
                async with asyncio.timeout(_LIMIT_S):
                    await self._carry_out(write)
            except QedgeError as error:
                self._end(write, error.code)
            except TimeoutError:
                self._end(write, "timeout")
            else:
                self._end(write, "done")
            self._changed()

    async def _carry_out(self, write: Write) -> None:
        if write.device or write.name not in (NEXT_SERVER, SCAN_RATE):
            await self._controls.write(write.device, write.name, write.value)
        elif write.name == NEXT_SERVER:
            if write.value is True:
                self._next_server()
        elif isinstance(write.value, int) and MIN_SAMPLE_MS <= write.value <= MAX_SAMPLE_MS:
            self._sample_ms = write.value
            self._rate_changed.set()
        else:
            raise QedgeError("sparkplug.bad_value", f"{SCAN_RATE} is {MIN_SAMPLE_MS} to {MAX_SAMPLE_MS} milliseconds.")

    def _end(self, write: Write, outcome: str) -> None:
        place = f"{write.device}: {write.name}" if write.device else write.name
        self._last = f"{place}: {outcome}"
        self._since_ms = self._clock.utc_ns() // 1_000_000
        self._metrics.add("qedge_sparkplug_writes_total", ("done" if outcome == "done" else "failed",))
        _LOG.info("sparkplug.command", device=write.device, metric=write.name, outcome=outcome)
