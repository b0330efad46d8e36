"""States of commands on the bus: signed, retained, told again after every connection that needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.crypto.keys import SigningKey
from qedge.crypto.signed import ShowsChain, sign_envelope
from qedge.fleet.commands.journal import Journal
from qedge.fleet.commands.model import Entry, report_of
from qedge.fleet.commands.ports import Line
from qedge.mesh.crypto_thread import CryptoThread
from qedge.wire.commands import CommandReport, KindView, NodeCommands, state_topic
from qedge.wire.envelope import Header, purpose_of
from qedge.wire.topics import Channel, topic

_LOG: Final = get_logger("fleet")
RETRY_S: Final = 1.0
_REMIND_NS: Final = 1_000_000_000
"""Least time between two times that a repeated request has its state told again."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """In whose name this node speaks."""

    fleet: str
    node: str
    key: SigningKey
    chain: ShowsChain


class Teller:
    """Publishes how commands stand. Only the newest state of a command goes out, and never an older one after it."""

    def __init__(self, speaker: Speaker, journal: Journal, line: Line, thread: CryptoThread, clock: Clock) -> None:
        self._speaker = speaker
        self._journal = journal
        self._line = line
        self._thread = thread
        self._clock = clock
        self._due: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._connected = asyncio.Event()
        self._order = asyncio.Lock()
        self._last: dict[str, int] = {}
        self._reminded: dict[str, int] = {}
        self._kinds: tuple[KindView, ...] = ()
        self._kinds_due = True
        line.on_session(self._on_session)

    def offer(self, kinds: Sequence[KindView]) -> None:
        """Tell operators what the node can be ordered to do."""
        self._kinds, self._kinds_due = tuple(kinds), True
        self._wake.set()

    def tell(self, command: str) -> None:
        """Publish the state of a command soon."""
        self._due[command] = None
        self._wake.set()

    def remind(self, command: str) -> None:
        """Publish a state once more, since its request came again: now and then, as anybody can repeat a request."""
        now_ns = self._clock.now_ns()
        if now_ns - self._reminded.get(command, now_ns - _REMIND_NS) >= _REMIND_NS:
            self._reminded[command] = now_ns
            self.tell(command)

    async def announce(self, entry: Entry) -> None:
        """Publish a state; returns once the broker has it, however long the broker is away."""
        while True:
            self._connected.clear()
            try:
                await self._publish(entry)
            except QedgeError as error:
                _LOG.warning("order.not_told", command=entry.id, code=error.code)
                await self._pause()
            else:
                return

    async def say(self, report: CommandReport) -> None:
        """Publish what is not in the journal, once; where the broker is away, nobody hears it."""
        try:
            await self._send(report)
        except QedgeError as error:
            _LOG.warning("order.not_told", command=report.id, code=error.code)

    async def clear(self, command: str) -> None:
        """Take a state away; raises `bus.*`."""
        async with self._order:
            where = state_topic(self._speaker.fleet, self._speaker.node, command)
            await self._line.publish(where, b"", qos=1, retain=True)
            self._last.pop(command, None)
            self._reminded.pop(command, None)

    async def run(self) -> None:
        """Publish until cancelled."""
        for command in await self._journal.shown(untold=True):
            self.tell(command)
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._connected.clear()
            try:
                await self._tell_all()
            except QedgeError as error:
                _LOG.warning("order.not_told", command=next(iter(self._due), ""), code=error.code)
                self._wake.set()
                await self._pause()

    async def _tell_all(self) -> None:
        if self._kinds_due:
            await self._tell_kinds()
        while self._due:
            command = next(iter(self._due))
            entry = await self._journal.get(command)
            if entry is not None and entry.request:
                await self._publish(entry)
            # what changed meanwhile asked to be told again, and stands in line already: publish it once more
            self._due.pop(command, None)
            if entry is not None and entry.request and await self._is_newer(entry):
                self.tell(command)

    async def _is_newer(self, told: Entry) -> bool:
        now = await self._journal.get(told.id)
        return now is not None and now.revision > self._last.get(told.id, -1)

    async def _publish(self, entry: Entry) -> None:
        async with self._order:
            if self._last.get(entry.id, -1) > entry.revision:
                return
            await self._send_what_fits(report_of(entry, self._clock.utc_ns()))
            self._last[entry.id] = entry.revision
        if entry.ended:
            await self._journal.told(entry.id, entry.revision)

    async def _send_what_fits(self, report: CommandReport) -> None:
        """Leave a result out that the broker does not take: it must not hold up what is to be told behind it."""
        try:
            await self._send(report)
        except QedgeError as error:
            if error.code != "bus.too_large" or not report.result:
                raise
            told = f"The result of {len(report.result)} bytes is more than the broker takes; ask for it at the box."
            await self._send(msgspec.structs.replace(report, result=b"", code=error.code, reason=told))

    async def _send(self, report: CommandReport) -> None:
        me = self._speaker
        where = state_topic(me.fleet, me.node, report.id)
        header = Header(where, me.node, report.revision, purpose_of(CommandReport), report.utc_ns)
        message = await self._thread.run(sign_envelope, header, report, me.key, me.chain)
        await self._line.publish(where, message, qos=1, retain=True)

    async def _tell_kinds(self) -> None:
        me, utc_ns = self._speaker, self._clock.utc_ns()
        where = topic(me.fleet, me.node, Channel.COMMANDS)
        header = Header(where, me.node, utc_ns, purpose_of(NodeCommands), utc_ns)
        body: msgspec.Struct = NodeCommands(me.node, utc_ns, self._kinds)
        message = await self._thread.run(sign_envelope, header, body, me.key, me.chain)
        await self._line.publish(where, message, qos=1, retain=True)
        self._kinds_due = False

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(RETRY_S):
                await self._connected.wait()
        except TimeoutError:
            return

    async def _on_session(self, session_present: bool) -> None:
        # a broker that lost the session may have lost what it retained, too
        for command in await self._journal.shown(untold=session_present):
            self.tell(command)
        self._kinds_due = True
        self._connected.set()
        self._wake.set()
