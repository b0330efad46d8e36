"""Messages that came and wait for their handlers: one at a time, in order, acknowledged once they are safe."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.bus.model import Handler, Incoming
from qedge.wire.topics import matches

_LOG: Final = get_logger("bus")
_ROOM_SHARE: Final = 0.9
_STALL_S: Final = 0.2
_MOST_TOPICS: Final = 1024
"""Topics whose handlers are remembered; senders choose topics, so they are bounded."""
_ALLOWANCE_STEP: Final = 0.25
MAX_ALLOWANCE: Final = 4.0
MAX_WAITING_BYTES: Final = 8 * 1024 * 1024
HANDLER_LIMIT_S: Final = 10.0
"""Longest time of one handler; shorter than the silence after which the watchdog takes the pump for dead."""


class Source(Protocol):
    """The connection on which a message came."""

    def acknowledge(self, mid: int) -> None:
        """Tell the broker that the message is safe."""
        ...

    def pause(self) -> None:
        """Read nothing more, so that the broker has to keep what it has."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...


@dataclass(frozen=True, slots=True)
class _Delivery:
    source: Source
    mid: int
    message: Incoming | None  # None: dealt with already, and only its acknowledgement waits for its turn

    @property
    def size(self) -> int:
        """Bytes of the message."""
        return len(self.message.payload) if self.message is not None else 0


class Inbox:
    """The queue between connections and handlers; it outlives connections.

    Of QoS-0 messages at most `limit` wait; any further one is dropped and counted. QoS-1 messages are never dropped.
    The receive maximum of the connection should bound them; because brokers do not always keep to it (mosquitto 2.0.11
    and rumqttd 0.20 send more once acknowledgements flow), a full queue stops reading. Where a handler then waits for
    the broker itself, whose word is behind what was not read, the queue grows in steps, up to `MAX_ALLOWANCE` times.

    A handler that raises or takes longer than `HANDLER_LIMIT_S` is counted and its message acknowledged all the same: a
    message that can never be handled must not come back for ever.
    """

    def __init__(self, limit: int, *, metrics: Metrics, clock: Clock) -> None:
        self._limit = limit
        self._metrics = metrics
        self._clock = clock
        self._handlers: list[tuple[str, Handler]] = []
        self._by_topic: dict[str, list[Handler]] = {}
        self._waiting: deque[_Delivery] = deque()
        self._arrival = asyncio.Event()
        self._unreliable = 0
        self._waiting_bytes = 0
        self._paused: set[Source] = set()
        self._allowance = 1.0
        self.progress_ns = clock.now_ns()
        """When the pump last moved (boot-time clock)."""

    @property
    def patterns(self) -> frozenset[str]:
        """All patterns that have handlers."""
        return frozenset(pattern for pattern, _ in self._handlers)

    def add_handler(self, pattern: str, handler: Handler) -> None:
        """Hand every message on `pattern` to `handler`."""
        self._handlers.append((pattern, handler))
        self._by_topic.clear()

    def put(self, source: Source, mid: int, message: Incoming) -> None:
        """Take a message; `mid` 0: it wants no acknowledgement."""
        if mid == 0:
            if self._unreliable >= self._limit:
                self.reject("queue_full")
                return
            self._unreliable += 1
        self._append(_Delivery(source, mid, message))

    def put_dealt_with(self, source: Source, mid: int) -> None:
        """Acknowledge a message that needs no handler, in its turn: MQTT 5 wants acknowledgements in order (§4.6)."""
        if mid:
            self._append(_Delivery(source, mid, None))

    def forget_redelivered(self, source: Source) -> None:
        """Drop what waits for an acknowledgement to connections before `source`: its session sends all of it again."""
        self._waiting = deque(each for each in self._waiting if each.mid == 0 or each.source is source)
        self._waiting_bytes = sum(each.size for each in self._waiting)
        self._paused &= {source}

    def reject(self, reason: str) -> None:
        """Count a message that had no effect."""
        self._metrics.add("qedge_bus_rejected_total", (reason,))

    async def run(self) -> None:
        """Hand messages to their handlers until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump())
            group.create_task(self._relieve())

    async def _pump(self) -> None:
        while True:
            self.progress_ns = self._clock.now_ns()
            if not self._waiting:
                self._arrival.clear()
                await self._arrival.wait()
                continue
            delivery = self._waiting.popleft()
            self._waiting_bytes -= delivery.size
            self._unreliable -= delivery.mid == 0
            self._resume_if_room()
            self._metrics.set("qedge_bus_queue_messages", len(self._waiting))
            if delivery.message is not None:
                await self._handle(delivery.message)
            if delivery.mid:
                delivery.source.acknowledge(delivery.mid)

    def _append(self, delivery: _Delivery) -> None:
        self._waiting.append(delivery)
        self._waiting_bytes += delivery.size
        self._arrival.set()
        if self._is_full(self._allowance) and delivery.source not in self._paused:
            self._paused.add(delivery.source)
            delivery.source.pause()

    def _is_full(self, share: float) -> bool:
        reliable = len(self._waiting) - self._unreliable
        return reliable >= share * self._limit or self._waiting_bytes >= share * MAX_WAITING_BYTES

    def _resume_if_room(self) -> None:
        if self._paused and not self._is_full(_ROOM_SHARE):
            self._allowance = 1.0
            self._resume()

    def _resume(self) -> None:
        paused, self._paused = self._paused, set()
        for source in paused:
            source.resume()

    async def _relieve(self) -> None:
        """Read a little further while one handler stands still before a full queue."""
        while True:
            before_ns = self.progress_ns
            await asyncio.sleep(_STALL_S)
            self._arrival.set()  # the pump moves now and then, so that one that hangs can be told from one that waits
            if self._paused and self.progress_ns == before_ns and self._allowance < MAX_ALLOWANCE:
                self._allowance += _ALLOWANCE_STEP
                self._resume()

    def _handlers_of(self, topic: str) -> list[Handler]:
        found = self._by_topic.get(topic)
        if found is None:
            if len(self._by_topic) >= _MOST_TOPICS:
                self._by_topic.clear()
            found = [handler for pattern, handler in self._handlers if matches(pattern, topic)]
            self._by_topic[topic] = found
        return found

    async def _handle(self, message: Incoming) -> None:
        found = self._handlers_of(message.topic)
        if not found:
            self.reject("unknown_topic")
        for handler in found:
            try:
                async with asyncio.timeout(HANDLER_LIMIT_S):
                    await handler(message)
            except QedgeError as error:
                self.reject(error.code)
                _LOG.debug("bus.rejected", topic=message.topic, reason=str(error))
            except TimeoutError:
                self.reject("handler_timeout")
                _LOG.error("bus.rejected", topic=message.topic, reason="its handler took too long")
            except Exception as error:  # noqa: BLE001 - one bad message must not end the pump
                self.reject("handler_failed")
                _LOG.error("bus.rejected", topic=message.topic, reason=f"{type(error).__name__}: {error}")
