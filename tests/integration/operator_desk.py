"""A fleet operator for tests: signs commands, sends them over a real broker and reads what the nodes say."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiomqtt
import msgspec

from qedge.base.ids import uuid7
from qedge.crypto.keys import SigningKey
from qedge.crypto.operators import approve, pack_order, sign_request
from qedge.crypto.signed import open_signed
from qedge.wire.commands import (
    CommandOrder,
    CommandReport,
    CommandRequest,
    command_topic,
    every_state,
    parse_command_topic,
)
from tests.integration.fleet_site import ThrowAwayFleet
from tests.integration.fleet_world import FleetWorld

Person = tuple[SigningKey, tuple[bytes, ...]]
ENDS = ("successful", "failed")


class OperatorDesk:
    """Listens to all states of a fleet; `reports` has every state in the order in which it came."""

    def __init__(self, fleet: ThrowAwayFleet, client: aiomqtt.Client) -> None:
        self.fleet = fleet
        self.olga = fleet.operator("olga")
        self.reports: dict[str, list[CommandReport]] = {}
        self._client = client
        self._serial = time.time_ns()
        self._trust = fleet.trust()
        self._came = asyncio.Event()

    async def listen(self) -> None:
        """Read until cancelled."""
        await self._client.subscribe(every_state(self.fleet.name), qos=1)
        async for message in self._client.messages:
            where, payload = str(message.topic), message.payload
            parsed = parse_command_topic(where)
            if parsed is not None and isinstance(payload, bytes) and payload:
                _, report, _ = open_signed(payload, where, CommandReport, self._trust, time.time_ns())
                self.reports.setdefault(parsed[3], []).append(report)
                self._came.set()

    def request(
        self, node: str, kind: str, arguments: msgspec.Struct | None = None, **changes: object
    ) -> CommandRequest:
        """Make a request."""
        self._serial += 1
        now_ns = time.time_ns()
        encoded = msgspec.msgpack.encode(arguments) if arguments is not None else b""
        made = CommandRequest(
            uuid7(now_ns, os.urandom),
            self.fleet.name,
            node,
            kind,
            self._serial,
            now_ns,
            now_ns + 600 * 10**9,
            encoded,
        )
        return msgspec.structs.replace(made, **changes)

    async def send(
        self, node: str, kind: str, arguments: msgspec.Struct | None = None, *approvers: Person, **changes: object
    ) -> str:
        """Order something; returns the id."""
        request = self.request(node, kind, arguments, **changes)
        signed = sign_request(request, *self.olga)
        order = CommandOrder(signed, tuple(approve(signed, *each) for each in approvers))
        await self.publish(command_topic(self.fleet.name, node, request.id), pack_order(order))
        return request.id

    async def publish(self, where: str, order: bytes) -> None:
        """Let an order stand on a topic."""
        await self._client.publish(where, order, qos=1, retain=True)

    async def end(self, command: str, limit_s: float = 60.0) -> CommandReport:
        """Wait until a command has ended."""
        async with asyncio.timeout(limit_s):
            while True:
                last = self.reports.get(command, [None])[-1]
                if last is not None and last.state in ENDS:
                    return last
                self._came.clear()
                await self._came.wait()

    async def ordered(
        self, node: str, kind: str, arguments: msgspec.Struct | None = None, *approvers: Person
    ) -> CommandReport:
        """Order something and wait for its end."""
        return await self.end(await self.send(node, kind, arguments, *approvers))


@asynccontextmanager
async def operator_desk(world: FleetWorld) -> AsyncIterator[OperatorDesk]:
    """Open a desk at the broker of a world."""
    async with world.stranger() as client:
        desk = OperatorDesk(world.fleet, client)
        listening = asyncio.create_task(desk.listen())
        try:
            yield desk
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
