"""What requests stand with the broker, asked again and again over one subscription."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.bus.model import Incoming
from qedge.client.fleet_tool.connection import FleetConnection
from qedge.crypto.operators import verify_request
from qedge.wire.commands import CommandOrder, CommandRequest, every_command, parse_command_topic
from qedge.wire.envelope import decode

_QUIET_S: Final = 0.4


def digest_of(order: CommandOrder) -> str:
    """Return what tells a request from every other: SHA3-256 of it as its author signed it, in hex."""
    return hashlib.sha3_256(order.signed).hexdigest()


class StandingRequests:
    """Reads what the broker retains on the topics of requests. A broker may withhold some, and can forge none."""

    def __init__(self, connection: FleetConnection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._hearers: dict[str, list[Callable[[Incoming], None]]] = {}

    async def requests(self, node: str = "+") -> list[tuple[CommandRequest, CommandOrder]]:
        """Return those that an operator of the fleet signed, oldest first."""
        found: dict[str, tuple[CommandRequest, CommandOrder]] = {}

        def hear(message: Incoming) -> None:
            if parse_command_topic(message.topic) is None or not message.payload:
                return
            utc_ns = self._clock.utc_ns()
            _, order = decode(message.payload, message.topic, CommandOrder, utc_ns)
            request, _ = verify_request(order.signed, message.topic, self._connection.trust, utc_ns)
            found[request.id] = (request, order)

        await self._read(every_command(self._connection.fleet, node), hear)
        return sorted(found.values(), key=lambda each: (each[0].issued_utc_ns, each[0].node))

    async def ids(self) -> frozenset[str]:
        """Return the ids of all, whoever signed them."""
        found: set[str] = set()

        def hear(message: Incoming) -> None:
            place = parse_command_topic(message.topic)
            if place is not None and message.payload:
                found.add(place[3])

        await self._read(every_command(self._connection.fleet, "+"), hear)
        return frozenset(found)

    async def _read(self, pattern: str, hear: Callable[[Incoming], None]) -> None:
        """Have the broker send what it retains, and wait until nothing more comes: brokers send that at once.

        A subscription that stands brings it only where it is asked for once more.
        """
        came = asyncio.Event()

        def heard(message: Incoming) -> None:
            came.set()
            try:
                hear(message)
            except QedgeError:
                self._connection.refused += 1

        if pattern not in self._hearers:
            hearers = self._hearers[pattern] = [heard]

            async def pass_on(message: Incoming) -> None:
                for each in tuple(hearers):
                    each(message)

            self._connection.bus.subscribe(pattern, pass_on, retained=True)
        else:
            hearers = self._hearers[pattern]
            hearers.append(heard)
            self._connection.bus.read_again(pattern)
        try:
            await _quiet(came)
        finally:
            hearers.remove(heard)


async def _quiet(came: asyncio.Event) -> None:
    while True:
        came.clear()
        try:
            async with asyncio.timeout(_QUIET_S):
                await came.wait()
        except TimeoutError:
            return
