"""Telemetry over the bus: signed by the node, at QoS 1."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from qedge.base.clock import Clock
from qedge.wire.envelope import Header, purpose_of
from qedge.wire.telemetry import TelemetryBatch
from qedge.wire.topics import telemetry_topic

_DEADLINE_S: Final = 10.0

Sign = Callable[[Header, msgspec.Struct], Awaitable[bytes]]
"""Signs an envelope with the node's key, outside the event loop."""


class TelemetryBus(Protocol):
    """The node's connection to its broker."""

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        ...

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0, deadline_s: float = 10.0
    ) -> None:
        """Publish; QoS 1 returns once the broker has it. Raises `bus.*`."""
        ...


class BusTelemetry:
    """Implements `Uplink`."""

    def __init__(self, fleet: str, node: str, bus: TelemetryBus, sign: Sign, *, clock: Clock) -> None:
        self._fleet = fleet
        self._node = node
        self._bus = bus
        self._sign = sign
        self._clock = clock
        self._sequence = itertools.count()

    @property
    def is_up(self) -> bool:
        """Whether the broker is connected."""
        return self._bus.connected

    async def send(self, batch: TelemetryBatch) -> None:
        """Send; returns once the broker has acknowledged. Raises `bus.*`."""
        topic = telemetry_topic(self._fleet, self._node, batch.kind)
        header = Header(topic, self._node, next(self._sequence), purpose_of(TelemetryBatch), self._clock.utc_ns())
        await self._bus.publish(topic, await self._sign(header, batch), qos=1, deadline_s=_DEADLINE_S)
