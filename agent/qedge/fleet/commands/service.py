"""Commands of fleet operators over MQTT: one service that takes, keeps, carries out and tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.crypto.certificates import made_utc_ns
from qedge.crypto.model import Member
from qedge.crypto.trust import Trust
from qedge.fleet.commands.cancelling import Cancel
from qedge.fleet.commands.config import CommandsConfig
from qedge.fleet.commands.intake import CANCEL, Intake
from qedge.fleet.commands.journal import Journal
from qedge.fleet.commands.lanes import Lanes
from qedge.fleet.commands.model import Phase, view_of
from qedge.fleet.commands.ports import Auditor, Executor, Line
from qedge.fleet.commands.rules import needs_second
from qedge.fleet.commands.running import Runner, ThisRun
from qedge.fleet.commands.telling import Speaker, Teller
from qedge.mesh.crypto_thread import CryptoThread
from qedge.wire.commands import FleetCommandList, FleetCommandView, KindView, every_command

_LOG: Final = get_logger("fleet")
_SWEEP_S: Final = 5.0
_AWAY: Final = frozenset({"bus.unavailable", "bus.timeout"})
_DAY_NS: Final = 86_400 * 1_000_000_000


class CommandService:
    """Implements the life of commands (`docs/guides/operate-a-fleet.md`); executors are given, `cancel` is its own."""

    name = "commands"

    def __init__(
        self,
        config: CommandsConfig,
        executors: Iterable[Executor],
        speaker: Speaker,
        trust: Trust,
        *,
        journal: Journal,
        line: Line,
        auditor: Auditor,
        this_run: ThisRun,
        clock: Clock,
        metrics: Metrics,
        clock_good: Callable[[], bool | None],
        member: Callable[[], Member],
    ) -> None:
        """`member` says what the node's present certificate does."""
        self._config = config
        self._clock = clock
        self._thread = CryptoThread()
        self._executors = {each.kind: each for each in executors}
        self._key_id, self._member = speaker.key.key_id, member
        self.journal = journal
        self._lanes = Lanes(config.max_waiting)
        self._teller = Teller(speaker, self.journal, line, self._thread, clock)
        self._runner = Runner(
            self._executors,
            self.journal,
            self._teller,
            self._lanes,
            auditor,
            this_run,
            clock=clock,
            metrics=metrics,
            is_revoked=trust.is_revoked,
        )
        self._executors[CANCEL] = Cancel(self._runner, self.journal)
        self._intake = Intake(
            config,
            speaker,
            trust,
            self._executors,
            self.journal,
            self._teller,
            self._lanes,
            self._runner,
            thread=self._thread,
            clock=clock,
            metrics=metrics,
            clock_good=clock_good,
        )
        self._line, self._pattern = line, every_command(speaker.fleet, speaker.node)
        line.subscribe(self._pattern, self._intake.receive, retained=True)

    def add(self, executor: Executor) -> None:
        """Take one more executor; before the service runs."""
        self._executors[executor.kind] = executor

    def audit_with(self, auditor: Auditor) -> None:
        """Write acts down elsewhere from now on."""
        self._runner.auditor = auditor

    @property
    def kinds(self) -> tuple[KindView, ...]:
        """What the node can be ordered to do, by name."""
        return tuple(
            KindView(kind, each.lane, str(each.role), needs_second(kind, self._config), each.time_limit_s)
            for kind, each in sorted(self._executors.items())
        )

    async def commands(self, limit: int) -> FleetCommandList:
        """Return the newest commands, without their results."""
        return FleetCommandList(tuple(view_of(entry) for entry in await self.journal.newest(limit)))

    async def command(self, command: str) -> FleetCommandView:
        """Return one command; raises `order.not_found`."""
        entry = await self.journal.get(command)
        if entry is None:
            raise QedgeError(
                "order.not_found", "The node knows no command of this id.", fix="See `qedge commands list`."
            )
        return view_of(entry)

    async def run(self, ready: Ready) -> None:
        """Serve until cancelled."""
        await self.journal.open(self._key_id, made_utc_ns(self._member()))
        for entry in await self.journal.unfinished():
            if entry.phase is not Phase.HELD:
                self._lanes.remove(entry.id)  # what an earlier run of this service left in line
                self._runner.enqueue(entry)
        self._teller.offer(self.kinds)
        self._intake.opened.set()
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._teller.run())
                group.create_task(self._runner.run())
                group.create_task(self._sweep())
        finally:
            await self._intake.close()

    async def _sweep(self) -> None:
        """End what waited too long, and clear what ended long ago."""
        while True:
            try:
                await self._sweep_once(self._clock.utc_ns())
            except QedgeError as error:
                _LOG.warning("order.not_told", command="", code=error.code)
            await asyncio.sleep(_SWEEP_S)

    async def _sweep_once(self, utc_ns: int) -> None:
        if self._intake.look_again():
            self._line.read_again(self._pattern)
        for entry in await self.journal.unfinished():
            if entry.phase is Phase.HELD and entry.expires_utc_ns <= utc_ns:
                await self._runner.end(
                    entry,
                    QedgeError(
                        "order.second_person",
                        "No second person approved it in time.",
                        fix="Send it again, and have it approved: `qedge fleet approve`.",
                    ),
                )
            elif entry.phase is Phase.WAITING and entry.expires_utc_ns <= utc_ns and self._lanes.drop(entry.id):
                await self._runner.end(
                    entry,
                    QedgeError(
                        "order.expired",
                        "Its turn did not come before its expiry.",
                        fix="Send it again, or with a later expiry.",
                    ),
                )
        keep_ns = round(self._config.keep_days * _DAY_NS)
        for command in await self.journal.out_of_date(utc_ns - keep_ns):
            try:
                await self._teller.clear(command)
            except QedgeError as error:
                _LOG.warning("order.not_told", command=command, code=error.code)
                if error.code in _AWAY:
                    break  # no other can be taken away either
                # a broker that refuses keeps the state; the journal must not grow for that
            await self.journal.forget(command)
        await self.journal.drop(utc_ns)
