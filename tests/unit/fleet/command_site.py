"""A node that takes commands, on a broker in memory, with executors that a test can make do anything."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.ids import uuid7
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.crypto.keys import SigningKey
from qedge.crypto.operators import approve, pack_order, sign_request
from qedge.crypto.signed import open_signed
from qedge.fleet.commands.config import CommandsConfig
from qedge.fleet.commands.journal import Journal
from qedge.fleet.commands.ports import AfterCrash, Executor, Progress, Recovered
from qedge.fleet.commands.running import ThisRun
from qedge.fleet.commands.service import CommandService
from qedge.fleet.commands.telling import Speaker
from qedge.store.store import Store
from qedge.wire.commands import (
    CancelCommand,
    CommandOrder,
    CommandReport,
    CommandRequest,
    FleetCommandView,
    OperatorRole,
    command_topic,
    parse_command_topic,
)
from tests.integration.fleet_site import ThrowAwayFleet
from tests.unit.mesh.mesh_site import MemoryBroker, MemoryBus

FLEET = "fleet"
NODE = "box"


class Answer(msgspec.Struct, frozen=True, tag_field="type", tag="test-answer/1"):
    """What the executor of tests returns."""

    text: str = "done"


class ScriptedExecutor:
    """Counts what it did to the world in `done`; waits for `gate` where it is closed."""

    def __init__(
        self,
        kind: str = "work",
        lane: str = "work",
        *,
        role: OperatorRole = OperatorRole.OPERATOR,
        after_crash: AfterCrash = AfterCrash.RERUN,
        two_persons: bool = False,
        time_limit_s: float = 20.0,
    ) -> None:
        self.kind = kind
        self.lane = lane
        self.role = role
        self.after_crash = after_crash
        self.two_persons = two_persons
        self.time_limit_s = time_limit_s
        self.done: list[str] = []
        self.began: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.found: Recovered = Recovered(go_on=True)
        self.stubborn = False
        self.after_effect: Callable[[], Awaitable[None]] | None = None

    def check(self, request: CommandRequest) -> None:
        """Refuse one word."""
        if request.arguments == b"wrong":
            raise QedgeError("order.bad_arguments", "That is wrong.")

    async def run(self, request: CommandRequest, progress: Progress) -> msgspec.Struct | None:
        """Do something once the gate is open."""
        self.began.append(request.id)
        await progress("half", 0.5)
        while not self.gate.is_set():
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                if not self.stubborn:
                    raise
        if self.error is not None:
            raise self.error
        self.done.append(request.id)
        if self.after_effect is not None:
            await self.after_effect()
        return Answer()

    async def recover(self, _request: CommandRequest) -> Recovered:
        """Say what the test wants."""
        return self.found


class Acts:
    """Fills `Auditor`."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []
        self.broken = False

    async def keep(self, *, command: str, kind: str, operator: str, decision: str, why: str) -> None:
        """Keep."""
        if self.broken:
            raise QedgeError("audit.unavailable", "The disk is gone.")
        assert command
        self.rows.append((kind, decision, why))


class ShiftedClock(SystemClock):
    """The clock of the box; a test can step its wall time."""

    shift_ns = 0

    def utc_ns(self) -> int:
        """Return wall time as the test wants it."""
        return super().utc_ns() + self.shift_ns


class CommandSite:
    """One node and its operators."""

    def __init__(self, folder: Path, *executors: Executor, config: CommandsConfig | None = None) -> None:
        self.fleet = ThrowAwayFleet(FLEET)
        self.trust = self.fleet.trust()
        self.enrol()
        self.operator = self.fleet.operator("olga")
        self.broker = MemoryBroker()
        self.executors: Sequence[Executor] = executors
        self.config = config or CommandsConfig(synchronised_clock=False)
        self.metrics = Metrics()
        self.clock = ShiftedClock()
        self.acts = Acts()
        self.clock_good: bool | None = True
        self.epoch = 0
        self.serial = 0
        self.path = folder / "qedge.sqlite3"
        self._store: Store | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def enrol(self) -> None:
        """Give the node a new key, certified at the time of the fleet."""
        self.node_key, self.node_chain = self.fleet.member(NODE)

    async def start(self) -> CommandService:
        """Start the node, or start it again."""
        self.epoch += 1
        self._store = Store(self.path, metrics=self.metrics)
        self.bus = MemoryBus(self.broker)
        self.service = CommandService(
            self.config,
            self.executors,
            Speaker(FLEET, NODE, self.node_key, self.node_chain),
            self.trust,
            journal=Journal(self._store),
            line=self.bus,
            auditor=self.acts,
            this_run=ThisRun("boot", self.epoch),
            clock=self.clock,
            metrics=self.metrics,
            clock_good=lambda: self.clock_good,
            member=lambda: self.trust.read(self.node_chain),
        )
        self._tasks = [
            asyncio.create_task(self.service.run(lambda: None)),
            asyncio.create_task(self.bus.pump()),
        ]
        await self.bus.connect()
        return self.service

    async def kill(self) -> None:
        """Stop at once: nothing is written down any more."""
        if self.bus in self.broker.buses:
            self.broker.buses.remove(self.bus)
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        if self._store is not None:
            self._store.close()
            self._store = None

    def request(
        self, kind: str = "work", arguments: bytes = b"", *, valid_s: float = 600.0, **changes: object
    ) -> CommandRequest:
        """Make a request; `changes` replace fields."""
        self.serial += 1
        now_ns = time.time_ns()
        made = CommandRequest(
            uuid7(now_ns, os.urandom),
            FLEET,
            NODE,
            kind,
            self.serial,
            now_ns,
            now_ns + round(valid_s * 1e9),
            arguments,
        )
        return msgspec.structs.replace(made, **changes)

    def order(self, request: CommandRequest, operator: tuple[SigningKey, tuple[bytes, ...]] | None = None) -> bytes:
        """Sign a request."""
        return pack_order(CommandOrder(sign_request(request, *(operator or self.operator))))

    def approved(self, signed: bytes, *approvers: tuple[SigningKey, tuple[bytes, ...]]) -> bytes:
        """Approve what was signed."""
        return pack_order(CommandOrder(signed, tuple(approve(signed, *each) for each in approvers)))

    def publish(self, request: CommandRequest, payload: bytes) -> str:
        """Let it stand on the topic of the request."""
        self.broker.publish(command_topic(FLEET, NODE, request.id), payload, retain=True)
        return request.id

    def send(self, kind: str = "work", arguments: bytes = b"", **changes: object) -> str:
        """Order something; returns the id."""
        request = self.request(kind, arguments, **changes)
        return self.publish(request, self.order(request))

    def cancel(self, command: str) -> str:
        """Order the end of another command."""
        return self.send("cancel", msgspec.msgpack.encode(CancelCommand(command)))

    def told(self, command: str) -> CommandReport | None:
        """Return what stands on the topic of a state, checked."""
        for where, payload in self.broker.retained.items():
            parsed = parse_command_topic(where)
            if parsed is not None and parsed[2:] == ("cmd-state", command):
                return self.read(where, payload)
        return None

    def all_told(self, command: str) -> list[CommandReport]:
        """Return all that was told of a command."""
        return [
            self.read(each.topic, each.payload)
            for each in self.broker.passed
            if each.payload and each.topic.endswith(f"/cmd-state/{command}")
        ]

    def read(self, where: str, payload: bytes) -> CommandReport:
        """Open a report."""
        _, report, member = open_signed(payload, where, CommandReport, self.trust, time.time_ns())
        assert member.subject.name == NODE
        return report

    async def view(self, command: str) -> FleetCommandView:
        """Return what the node keeps."""
        return await self.service.command(command)

    async def until(
        self, command: str, condition: Callable[[CommandReport], bool], limit_s: float = 30.0
    ) -> CommandReport:
        """Wait until what is told of a command is so."""
        async with asyncio.timeout(limit_s):
            while True:
                report = self.told(command)
                if report is not None and condition(report):
                    return report
                await asyncio.sleep(0.01)

    async def end(self, command: str) -> CommandReport:
        """Wait for the end of a command."""
        return await self.until(command, lambda report: report.state in ("successful", "failed"))

    async def quiet(self) -> None:
        """Wait until every message was handled."""
        marker = self.send("unknown-kind", node_key=self.node_key.key_id)
        await self.end(marker)
