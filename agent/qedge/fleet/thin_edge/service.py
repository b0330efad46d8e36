"""The node as a service of a thin-edge.io device: what it says goes there, and commands come from there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.bus.model import Incoming, LastWill
from qedge.fleet.connections import ToolConnection
from qedge.fleet.retained import RetainedBook
from qedge.fleet.telemetry.model import Item
from qedge.fleet.telemetry.service import Collector
from qedge.fleet.thin_edge.config import ThinEdgeConfig
from qedge.fleet.thin_edge.desk import CommandDesk
from qedge.fleet.thin_edge.mapping import Json, Message, Words
from qedge.fleet.thin_edge.ports import CommandJournal, LocalOperation
from qedge.wire.telemetry import Alarm, NodeHealth

ADAPTER: Final = "thin-edge"
_SETTLE_S: Final = 1.0
"""Time in which a broker sends what it retains; there is no mark for its end."""


class ThinEdge:
    """The adapter. `take` is a sink of the collector; `run` goes beside the connection."""

    def __init__(
        self,
        config: ThinEdgeConfig,
        connection: ToolConnection,
        collector: Collector,
        operations: Mapping[str, LocalOperation],
        journal: CommandJournal,
        *,
        settings: Mapping[str, Json],
        pid: int,
        clock: Clock,
        settle_s: float = _SETTLE_S,
    ) -> None:
        """`operations`: what could be carried out, of which the configuration permits some; `settings`: no secrets."""
        self._connection = connection
        self._collector = collector
        self._words = Words(config)
        self._pid = pid
        self._clock = clock
        self._settle_s = settle_s
        self._settled = False
        self._retained = RetainedBook()
        permitted: dict[str, LocalOperation] = {
            kind: operations[kind] for kind in config.commands if kind in operations
        }
        self.desk = CommandDesk(permitted, journal, self._publish, clock=clock)
        for message in (self._words.registration(), *self._words.metadata(), self._words.settings(settings)):
            self._retained.want(message.topic, message.payload)
        for kind, operation in permitted.items():
            capability = self._words.capability(kind, operation.about)
            self._retained.want(capability.topic, capability.payload)
        base = self._words.base
        for pattern in (base, f"{base}/m/+/meta", f"{base}/a/+", f"{base}/twin/+", f"{base}/config", f"{base}/cmd/+"):
            connection.subscribe(pattern, self._saw)
        connection.subscribe(f"{base}/cmd/+/+", self._commanded)
        connection.subscribe(f"{self._words.device}/cmd/health/check", self._commanded)
        connection.set_will(self._will)
        connection.before_connection(self._begin_anew)
        connection.on_connected(self._announce)

    def take(self, item: Item) -> None:
        """Pass an item on; alarms and health are told again after a connection, the rest is lost without one."""
        body = item.body
        if isinstance(body, NodeHealth):
            self._say_health(body)
            self._want_twin()
            self._reconcile()
            return
        message = self._words.item(item)
        if message is None:
            return
        if isinstance(body, Alarm):
            self._retained.want(message.topic, message.payload)
            self._reconcile()
        elif self._connection.connected:
            self._connection.post(message.topic, message.payload)

    async def run(self) -> None:
        """Carry out commands until cancelled."""
        await self.desk.run()

    def _begin_anew(self) -> None:
        self._settled = False
        self._retained.forget_seen()

    async def _announce(self) -> None:
        """After a connection: health at once, the rest once it is known what stands there."""
        self._say_health(self._collector.health)
        await asyncio.sleep(self._settle_s)
        self._want_twin()
        for alarm in self._collector.standing:
            message = self._words.alarm(alarm)
            self._retained.want(message.topic, message.payload)
        self._settled = True
        self._reconcile()
        await self.desk.tell_again()

    def _want_twin(self) -> None:
        for message in self._words.twin(self._collector.status):
            self._retained.want(message.topic, message.payload)

    def _reconcile(self) -> None:
        if not self._settled or not self._connection.connected:
            return
        for topic, payload in self._retained.changes():
            if self._connection.post(topic, payload, retain=True):
                self._retained.note(topic, payload)

    def _say_health(self, health: NodeHealth) -> None:
        if self._connection.connected:
            self._post(self._words.health(health.state, self._pid, self._clock.utc_ns()))

    def _post(self, message: Message) -> None:
        self._connection.post(message.topic, message.payload, retain=message.retain)

    async def _publish(self, topic: str, payload: bytes) -> None:
        await self._connection.publish(topic, payload, retain=True)

    async def _saw(self, message: Incoming) -> None:
        """Learn what stands there; what somebody else puts there later is put right."""
        if message.retain or not self._settled:
            self._retained.note(message.topic, message.payload)

    async def _commanded(self, message: Incoming) -> None:
        if message.topic.endswith("/cmd/health/check"):
            self._say_health(self._collector.health)
            return
        try:
            await self.desk.heard(message)
        except QedgeError as error:
            # not written down, so not begun: its requester is told, and may try again under another id
            refusal = {"status": "failed", "reason": str(error)}
            self._connection.post(message.topic, msgspec.json.encode(refusal), retain=True)

    def _will(self) -> LastWill:
        message = self._words.last_will(self._pid)
        return LastWill(message.topic, message.payload, 0, retain=True)
