"""The fleet tool at the broker: a connection of its own, births and reports believed only by their signatures."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Final, TypeVar

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.metrics import Metrics
from qedge.bus.config import BusConfig
from qedge.bus.endpoint import external_endpoint
from qedge.bus.model import Endpoint, Incoming
from qedge.bus.service import Bus
from qedge.client.fleet_tool.inventory import Inventory
from qedge.crypto.model import Member
from qedge.crypto.signed import open_signed
from qedge.crypto.trust import Trust
from qedge.wire.commands import CommandReport, NodeCommands, every_state, parse_command_topic
from qedge.wire.envelope import decode
from qedge.wire.mesh import Birth, Lost, Pulse
from qedge.wire.topics import Channel, every_node, parse_topic, topic
from qedge.wire.trust import AUTHORITY, RevocationNotice

CONNECT_LIMIT_S: Final = 15.0
_POLL_S: Final = 0.02
_KEPT_REPORTS: Final = 50_000
_MAX_STATES: Final = 64 * 2**20
_RETRY_S: Final = 0.25

_T = TypeVar("_T", bound=msgspec.Struct)
NodeNews = Callable[[str], None]
ReportNews = Callable[[str, CommandReport], None]


def fleet_endpoint(config: BusConfig) -> Endpoint:
    """Return where the fleet's broker is; raises `client.usage` where nobody said so."""
    where = external_endpoint(config)
    if where is None:
        raise QedgeError(
            "client.usage",
            "It is not known where the fleet's broker is.",
            fix="Give --broker mqtt://HOST:PORT, or write broker.toml into the folder of the operator or authority.",
        )
    return where


class FleetConnection:
    """What a fleet's nodes say, as far as the fleet's authority vouches for them. `async with` connects.

    Reports on commands that nobody follows are kept as they came, so that `follow` later finds what the broker
    retained; the oldest give way.
    """

    def __init__(
        self,
        operator: str,
        trust: Trust,
        config: BusConfig,
        *,
        clock: Clock,
        random_bytes: RandomBytes,
        uniform: Callable[[], float],
        endpoint: Endpoint | None = None,
    ) -> None:
        self.fleet = trust.fleet
        self.trust = trust
        self.inventory = Inventory()
        self.refused = 0
        """Messages that had no effect."""
        self.on_node: list[NodeNews] = []
        self.on_report: list[ReportNews] = []
        self._clock = clock
        self._followed: set[tuple[str, str]] = set()
        self._unread: OrderedDict[tuple[str, str], Incoming] = OrderedDict()
        self._unread_bytes = 0
        self._births = 0
        self._births_came = asyncio.Event()
        self._listening_utc_ns = 0
        where = endpoint or fleet_endpoint(config)
        self.bus = Bus(
            config,
            lambda: where,
            client_id=f"qedge-tool-{random_bytes(8).hex()}",
            reply_topic=topic(self.fleet, operator, Channel.REPLY),
            clock=clock,
            metrics=Metrics(),
            random_bytes=random_bytes,
            uniform=uniform,
        )
        self.bus.subscribe(topic(self.fleet, AUTHORITY, Channel.REVOKED), self._revoked, retained=True)
        self.bus.subscribe(every_node(self.fleet, Channel.BIRTH), self._birth, retained=True)
        self.bus.subscribe(every_node(self.fleet, Channel.LOST), self._lost)
        self.bus.subscribe(every_node(self.fleet, Channel.PULSE), self._pulse)
        self.bus.subscribe(every_node(self.fleet, Channel.COMMANDS), self._commands, retained=True)
        self.bus.subscribe(every_state(self.fleet), self._report, retained=True)
        self.bus.on_session(self._listens)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> FleetConnection:
        self._running = asyncio.create_task(self.bus.run(lambda: None))
        try:
            await self._connected(self._running)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._end()

    async def settle(self, quiet_s: float, limit_s: float) -> None:
        """Wait until no birth has come for `quiet_s`, at most `limit_s`: brokers send what they retain at once."""
        loop = asyncio.get_running_loop()
        until = loop.time() + limit_s
        while (left_s := until - loop.time()) > 0:
            self._births_came.clear()
            try:
                async with asyncio.timeout(min(quiet_s, left_s)):
                    await self._births_came.wait()
            except TimeoutError:
                return

    def follow(self, node: str, command_id: str) -> None:
        """Have reports on a command told, also those that came before."""
        self._followed.add((node, command_id))
        kept = self._unread.pop((node, command_id), None)
        if kept is not None:
            self._unread_bytes -= len(kept.payload)
            with contextlib.suppress(QedgeError):
                self._believe(node, kept)

    def note_silence(self) -> None:
        """Take nodes for lost whose heartbeats have ceased."""
        if self.bus.connected:
            for name in self.inventory.hush(self._clock.utc_ns(), self._listening_utc_ns):
                self._tell(name)

    async def publish(self, where: str, payload: bytes, *, expiry_s: int, deadline_s: float) -> None:
        """Have the broker retain a message; tries again while it is away. Raises `bus.unavailable`, `bus.too_large`."""
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    try:
                        await self.bus.publish(where, payload, qos=1, retain=True, expiry_s=expiry_s)
                    except QedgeError as error:
                        if error.code not in ("bus.unavailable", "bus.timeout"):
                            raise
                        await asyncio.sleep(_RETRY_S)
                    else:
                        return
        except TimeoutError:
            raise QedgeError(
                "bus.unavailable", "The broker went away before it took a request.", fix="Look at the broker."
            ) from None

    async def _connected(self, running: asyncio.Task[None]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_LIMIT_S):
                while not (self.bus.connected or running.done()):  # noqa: ASYNC110 - the bus has no event for it
                    await asyncio.sleep(_POLL_S)
        if running.done():
            running.result()
        if not self.bus.connected:
            view = self.bus.view()
            raise QedgeError(
                "bus.unavailable",
                f"The fleet's broker {view.broker} cannot be reached ({view.error or 'no answer'}).",
                fix="Check address, port and credentials in --broker or broker.toml.",
            )

    async def _listens(self, _session_present: bool) -> None:
        self._listening_utc_ns = self._clock.utc_ns()

    async def _end(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _revoked(self, message: Incoming) -> None:
        _, notice = decode(message.payload, message.topic, RevocationNotice, self._clock.utc_ns())
        if self.trust.take_revocations(notice.signed, self._clock.utc_ns()):
            self.inventory.drop_revoked(self.trust.revoked_keys)

    async def _birth(self, message: Incoming) -> None:
        self._births_came.set()
        await asyncio.sleep(0)  # a fleet's births take a while to verify; the connection has to be fed meanwhile
        name = self._speaker(message)
        birth, member = self._open(message, Birth)
        if birth.node == name and birth.fleet == self.fleet:
            node = self.inventory.born(birth, member, self._clock.utc_ns(), retained=message.retain)
            if node is not None:
                self._tell(name)

    async def _commands(self, message: Incoming) -> None:
        self._births_came.set()
        await asyncio.sleep(0)
        told, member = self._open(message, NodeCommands)
        if member.subject.name == told.node == self._speaker(message):
            self.inventory.can(told.node, {each.kind: each.time_limit_s for each in told.kinds})

    async def _lost(self, message: Incoming) -> None:
        name = self._speaker(message)
        _, will = decode(message.payload, message.topic, Lost, self._clock.utc_ns())
        if self.inventory.lost(name, will) is not None:
            self._tell(name)

    async def _pulse(self, message: Incoming) -> None:
        name = self._speaker(message)
        _, pulse = decode(message.payload, message.topic, Pulse, self._clock.utc_ns())
        before = self.inventory.node(name)
        if self.inventory.beat(name, pulse, self._clock.utc_ns()):
            after = self.inventory.node(name)
            if before is None or after is None or before.state is not after.state:
                self._tell(name)

    async def _report(self, message: Incoming) -> None:
        place = parse_command_topic(message.topic)
        if place is None or not message.payload:
            return
        _, node, _, command_id = place
        if (node, command_id) in self._followed:
            await asyncio.sleep(0)
            self._believe(node, message)
            return
        old = self._unread.pop((node, command_id), None)
        self._unread_bytes += len(message.payload) - (len(old.payload) if old is not None else 0)
        self._unread[node, command_id] = message
        while len(self._unread) > _KEPT_REPORTS or self._unread_bytes > _MAX_STATES:
            self._unread_bytes -= len(self._unread.popitem(last=False)[1].payload)

    def _believe(self, node: str, message: Incoming) -> None:
        report, member = self._open(message, CommandReport)
        place = parse_command_topic(message.topic)
        if member.subject.name == node and place is not None and report.id == place[3]:
            self.inventory.heard(node, self._clock.utc_ns())
            for tell in self.on_report:
                tell(node, report)

    def _open(self, message: Incoming, kind: type[_T]) -> tuple[_T, Member]:
        try:
            _, body, member = open_signed(message.payload, message.topic, kind, self.trust, self._clock.utc_ns())
        except QedgeError:
            self.refused += 1
            raise
        return body, member

    def _speaker(self, message: Incoming) -> str:
        place = parse_topic(message.topic)
        return place[1] if place is not None else ""

    def _tell(self, name: str) -> None:
        for tell in self.on_node:
            tell(name)
