"""The node at Home Assistant: announced once, its state now and then, its absence by the will."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.bus.model import Incoming, LastWill
from qedge.fleet.connections import ToolConnection
from qedge.fleet.home_assistant.config import HomeAssistantConfig
from qedge.fleet.home_assistant.discovery import (
    INSTALL,
    OFFLINE,
    ONLINE,
    Json,
    discovery,
    places,
    state,
    without,
    written,
)
from qedge.fleet.home_assistant.ports import Software, SoftwareView
from qedge.fleet.telemetry.model import Item
from qedge.fleet.telemetry.service import Collector
from qedge.wire.telemetry import Alarm, NodeHealth

ADAPTER: Final = "home-assistant"
_LOG: Final = get_logger("fleet")
_SETTLE_S: Final = 1.0
_BIRTH: Final = b"online"


class HomeAssistant:
    """The adapter. `take` is a sink of the collector; `run` goes beside the connection."""

    def __init__(
        self,
        config: HomeAssistantConfig,
        connection: ToolConnection,
        collector: Collector,
        *,
        fleet: str,
        node: str,
        uniform: Callable[[], float],
        software: Software | None = None,
        settle_s: float = _SETTLE_S,
    ) -> None:
        self._config = config
        self._connection = connection
        self._collector = collector
        self._uniform = uniform
        self._settle_s = settle_s
        self._places = places(config, fleet, node)
        self._stands = b""
        self._state = b""
        self._software = software
        self._versions: SoftwareView | None = None
        self._installing: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._announcing = asyncio.Lock()
        self._again: set[asyncio.Task[None]] = set()
        connection.subscribe(self._places.config, self._saw)
        connection.subscribe(self._places.status, self._heard_status)
        if self._may_install:
            connection.subscribe(self._places.install, self._heard_install)
        connection.set_will(self._will)
        connection.before_connection(self._begin_anew)
        connection.on_connected(self._connected)

    @property
    def _may_install(self) -> bool:
        return self._config.install and self._software is not None

    def take(self, item: Item) -> None:
        """Notice that something changed."""
        if isinstance(item.body, (Alarm, NodeHealth)):
            self._due.set()

    async def run(self) -> None:
        """Publish states until cancelled."""
        try:
            while True:
                if self._connection.connected and not self._config.remove:
                    await self._look_at_software()
                    self._say_state()
                    await self._renew()
                self._due.clear()
                try:
                    async with asyncio.timeout(self._config.period_s):
                        await self._due.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._again:
                task.cancel()
            if self._installing is not None:
                self._installing.cancel()
                await asyncio.gather(self._installing, return_exceptions=True)
            await asyncio.gather(*self._again, return_exceptions=True)

    def _begin_anew(self) -> None:
        self._stands, self._state = b"", b""

    async def _connected(self) -> None:
        """After a connection: learn what is retained, and announce the device where that differs."""
        await asyncio.sleep(self._settle_s)
        await self._announce(again=False)

    async def _renew(self) -> None:
        """Announce the device again where a reload has changed its drivers or links."""
        if self._stands and written(self._document()) != self._stands:
            with contextlib.suppress(QedgeError):  # the next connection announces anyway
                await self._announce(again=False)

    async def _announce(self, *, again: bool) -> None:
        """Announce the device; without `again` only where something else stands there. Raises `bus.*`."""
        async with self._announcing:
            if self._config.remove:
                if self._stands:
                    await self._retain(self._places.config, b"")
                    for topic in (self._places.state, self._places.availability):
                        await self._retain(topic, b"")
                    self._stands = b""
                return
            document = self._document()
            body = written(document)
            fewer = without(document, self._stands) if self._stands else None
            if fewer is not None:
                await self._retain(self._places.config, written(fewer))
            if again or body != self._stands:
                await self._retain(self._places.config, body)
                self._stands = body
            await self._retain(self._places.availability, ONLINE)
            self._say_state(anew=True)

    def _say_state(self, *, anew: bool = False) -> None:
        status, health = self._collector.status, self._collector.health.state
        body = written(state(status, health, self._versions, self._config.release_url))
        if (anew or body != self._state) and self._connection.post(self._places.state, body, retain=True):
            self._state = body

    def _document(self) -> dict[str, Json]:
        return discovery(self._collector.status, self._places, install=self._may_install)

    async def _look_at_software(self) -> None:
        if self._software is not None:
            self._versions = await self._software.look()

    async def _heard_install(self, message: Incoming) -> None:
        """Start the update that is offered, one at a time; what a broker retains starts nothing."""
        under_way = self._installing is not None and not self._installing.done()
        if message.payload == INSTALL and not message.retain and not under_way:
            self._installing = asyncio.create_task(self._install())

    async def _install(self) -> None:
        self._tell_install("executing")
        self._due.set()
        try:
            if self._software is not None:
                await self._software.install()
        except QedgeError as error:
            self._tell_install("failed", str(error))
        else:
            self._tell_install("successful")
        self._due.set()

    def _tell_install(self, outcome: str, reason: str = "") -> None:
        _LOG.info(
            "adapter.command", adapter=ADAPTER, kind="software_update", command="install", state=outcome, reason=reason
        )

    async def _retain(self, topic: str, payload: bytes) -> None:
        await self._connection.publish(topic, payload, retain=True)

    async def _saw(self, message: Incoming) -> None:
        """Learn what is retained; without that flag it is the echo of our own word."""
        if message.retain:
            self._stands = message.payload

    async def _heard_status(self, message: Incoming) -> None:
        """Home Assistant has started: announce again after a while, since it says so a little early."""
        if message.payload == _BIRTH and not message.retain and not self._again:
            task = asyncio.create_task(self._announce_later())
            self._again.add(task)
            task.add_done_callback(self._again.discard)

    async def _announce_later(self) -> None:
        await asyncio.sleep(self._uniform() * self._config.announce_delay_s)
        with contextlib.suppress(QedgeError):  # as above
            await self._announce(again=True)

    def _will(self) -> LastWill | None:
        if self._config.remove:
            return None
        return LastWill(self._places.availability, OFFLINE, 0, retain=True)
