"""Handshakes of devices on their way to the greeter: one at a time of each device, few at a time in all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.devices.ports import Greeter
from qedge.devices.ways_in.pace import Pace

_LOG: Final = get_logger("devices")
MAX_HELLO_BYTES: Final = 32 * 1024
_TIME_LIMIT_S: Final = 10.0

Reply = Callable[[str, bytes], None]
"""Sends an answer to a device on its `welcome` topic."""


class GreetingDesk:
    """Takes what devices say on `hello`, lets the greeter answer, and sends the answer back the way it came.

    A device whose last step is not answered yet has to wait: a further one is dropped. That holds for each way alone,
    for on the broker anyone can speak in a device's name. A refused step gets no answer.
    """

    name = "device-greetings"

    def __init__(
        self, greeter: Greeter, *, pace: Pace, metrics: Metrics, max_at_once: int = 4, max_waiting: int = 20_480
    ) -> None:
        self._greeter = greeter
        self._pace = pace
        self._metrics = metrics
        self._max_at_once = max_at_once
        self._waiting: asyncio.Queue[tuple[str, bytes, Reply]] = asyncio.Queue(max_waiting)
        self._under_way: set[tuple[str, Reply]] = set()
        self._greeted: list[Callable[[str], None]] = []

    def on_greeted(self, call: Callable[[str], None]) -> None:
        """Call something with the id of each device that was answered."""
        self._greeted.append(call)

    def offer(self, device_id: str, message: bytes, reply: Reply) -> bool:
        """Take one step of a device; False where it was dropped."""
        if len(message) > MAX_HELLO_BYTES:
            self._metrics.add("qedge_device_greetings_total", ("too_large",))
            return False
        if (device_id, reply) in self._under_way or self._waiting.full():
            self._metrics.add("qedge_device_greetings_total", ("busy",))
            return False
        self._under_way.add((device_id, reply))
        self._waiting.put_nowait((device_id, message, reply))
        return True

    async def run(self, ready: Ready) -> None:
        """Answer until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._max_at_once):
                group.create_task(self._serve())
            ready()

    async def _serve(self) -> None:
        while True:
            device_id, message, reply = await self._waiting.get()
            try:
                began_ns = await self._pace.turn()
                outcome = await self._greet(device_id, message, reply)
            finally:
                self._under_way.discard((device_id, reply))
            self._pace.spent(began_ns)
            self._metrics.add("qedge_device_greetings_total", (outcome,))
            # One handshake costs a millisecond or so; everything else on the loop comes first.
            await asyncio.sleep(0)

    async def _greet(self, device_id: str, message: bytes, reply: Reply) -> str:
        try:
            async with asyncio.timeout(_TIME_LIMIT_S):
                answer = await self._greeter.greet(device_id, message)
        except QedgeError:
            return "refused"
        except TimeoutError:
            return "timeout"
        except Exception as error:  # noqa: BLE001 - a fault in one handshake must not end those of all others
            _LOG.error("devices.failed", error=f"{type(error).__name__}: {error}")
            return "failed"
        if answer:
            reply(device_id, answer)
        for call in self._greeted:
            call(device_id)
        return "answered"
