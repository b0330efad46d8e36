"""The upstream over the bus: sealed for its recipient, signed by the node, at QoS 1."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from qedge.base.clock import Clock
from qedge.devices.onward.sealing import OnwardSealer
from qedge.wire.envelope import Header, purpose_of
from qedge.wire.segments import OnwardReadings, OnwardSealed
from qedge.wire.topics import Channel, topic

_DEADLINE_S = 10.0

Sign = Callable[[Header, msgspec.Struct], Awaitable[bytes]]
"""Signs an envelope with the node's key, outside the event loop."""


class UplinkBus(Protocol):
    """The bus to the broker that leads upstream."""

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        ...

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0, deadline_s: float = 10.0
    ) -> None:
        """Publish; QoS 1 returns once the broker has it. Raises `bus.*`."""
        ...


class BusUplink:
    """Implements `Uplink`."""

    def __init__(
        self, fleet: str, node: str, bus: UplinkBus, sealer: OnwardSealer, sign: Sign, *, clock: Clock
    ) -> None:
        self._node = node
        self._topic = topic(fleet, node, Channel.ONWARD)
        self._bus = bus
        self._sealer = sealer
        self._sign = sign
        self._clock = clock
        self._sequence = itertools.count()

    @property
    def is_up(self) -> bool:
        """Whether the broker is connected."""
        return self._bus.connected

    async def send(self, readings: OnwardReadings) -> None:
        """Send; returns once the broker has acknowledged. Raises `bus.*`."""
        sealed = self._sealer.seal(readings)
        purpose = purpose_of(OnwardSealed)
        header = Header(self._topic, self._node, next(self._sequence), purpose, self._clock.utc_ns())
        await self._bus.publish(self._topic, await self._sign(header, sealed), qos=1, deadline_s=_DEADLINE_S)
