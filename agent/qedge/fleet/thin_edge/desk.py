"""Carries out local commands: written down before they are acknowledged, told before anything is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.bus.model import Incoming
from qedge.fleet.thin_edge.commands import MOST_KNOWN, PAST, Act, LocalCommand, Status, decide, parse
from qedge.fleet.thin_edge.mapping import Json
from qedge.fleet.thin_edge.ports import CommandJournal, LocalOperation

_LOG: Final = get_logger("fleet")
REMEMBERED_NS: Final = 7 * 86_400 * 10**9
"""How long the id of a command that has ended is known, so that it is not done again."""

_RETRY_S: Final = 2.0
_MOST_WAITING: Final = 100

Publish = Callable[[str, bytes], Awaitable[None]]
"""Publishes retained at QoS 1; returns once the broker has it. Raises `bus.*`."""


class CommandDesk:
    """Commands of all kinds. `heard` is the handler of `…/cmd/+/+`."""

    def __init__(
        self, operations: Mapping[str, LocalOperation], journal: CommandJournal, publish: Publish, *, clock: Clock
    ) -> None:
        self._operations = dict(operations)
        self._allowed = frozenset(operations)
        self._journal = journal
        self._publish = publish
        self._clock = clock
        self._known: dict[str, LocalCommand] = {}
        self._lanes = {kind: asyncio.Lock() for kind in operations}
        self._tasks: set[asyncio.Task[None]] = set()
        self._untold: set[str] = set()
        self._taking: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()

    async def run(self) -> None:
        """Go on with what an earlier run has begun, and carry out commands until cancelled."""
        for command in await self._journal.open(self._clock.utc_ns() - REMEMBERED_NS):
            self._known[command.topic] = command
        self._opened.set()
        for command in list(self._known.values()):
            if command.status in (Status.INIT, Status.EXECUTING):
                self._spawn(self._go_on(command))
        try:
            await asyncio.Event().wait()
        finally:
            # what is cut off here is found begun at the next start
            if self._taking is not None:
                self._taking.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def heard(self, message: Incoming) -> None:
        """Take a message; on the disk when this returns. Raises `store.*`.

        What is on its way to the disk gets there, and is begun, also where nobody waits for it any more: a row that
        nothing carries out would be found, and begun, at some later start.
        """
        came = parse(message.topic, message.payload)
        if came is None:
            return
        await self._opened.wait()
        if self._taking is not None:
            await asyncio.wait({self._taking})  # what is not on the disk yet is not known yet
        known = self._known.get(came.topic)
        decision = decide(came, known, retained=message.retain, allowed=self._allowed)
        command = decision.command
        if command is None:
            return
        match decision.act:
            case Act.BEGIN if len(self._tasks) >= _MOST_WAITING:
                await self._tell(command.to(Status.FAILED, reason="too many commands wait"))
            case Act.BEGIN:
                self._taking = taking = asyncio.create_task(self._begin(command))
                taking.add_done_callback(self._taken)
                await asyncio.shield(taking)
            case Act.TELL | Act.FAIL:
                await self._tell(command)
            case Act.CLEAR:
                await self._keep(LocalCommand(command.topic, command.kind, command.id, Status.CLEARED, {}))
            case Act.NOTHING:
                pass

    async def _begin(self, command: LocalCommand) -> None:
        await self._keep(command)
        self._spawn(self._carry_out(command))

    def _taken(self, task: asyncio.Task[None]) -> None:
        self._taking = None
        if not task.cancelled():
            task.exception()  # looked at, so that nothing complains later

    async def tell_again(self) -> None:
        """Say where commands stand that are under way or ended while the broker was not there."""
        for command in list(self._known.values()):
            if command.status is Status.EXECUTING or command.topic in self._untold:
                await self._tell(command)

    async def _go_on(self, command: LocalCommand) -> None:
        operation = self._operations.get(command.kind)
        if operation is None:
            await self._end(command.to(Status.FAILED, reason=f"{command.kind} is not carried out any more"))
        elif command.status is Status.INIT:
            await self._carry_out(command)
        else:
            async with self._lanes[command.kind]:
                more = await self._limited(operation, command, operation.recover(command))
                await self._end(more)

    async def _carry_out(self, command: LocalCommand) -> None:
        operation = self._operations[command.kind]
        async with self._lanes[command.kind]:
            known = self._known.get(command.topic)
            if known is None or known.status is Status.CLEARED:
                return  # its requester did not wait
            begun = command.to(Status.EXECUTING)
            try:
                await self._keep(begun)
            except QedgeError as error:  # nothing was done
                await self._end(command.to(Status.FAILED, reason=str(error)))
                return
            await self._tell(begun)
            await self._end(await self._limited(operation, begun, operation.run(begun)))

    async def _limited(
        self, operation: LocalOperation, command: LocalCommand, work: Awaitable[Mapping[str, Json] | None]
    ) -> LocalCommand:
        """Wait for an operation and return the end state of its command."""
        try:
            async with asyncio.timeout(operation.time_limit_s):
                more = await work
        except TimeoutError:
            return command.to(Status.FAILED, reason=f"it took longer than {operation.time_limit_s:g} s")
        except QedgeError as error:
            return command.to(Status.FAILED, reason=str(error))
        except Exception as error:  # noqa: BLE001 - whatever an operation raises, its command has to end
            return command.to(Status.FAILED, reason=f"{type(error).__name__}: {error}")
        if more is None:
            return command.to(Status.FAILED, reason="interrupted by a restart")
        return command.to(Status.SUCCESSFUL, more)

    async def _end(self, command: LocalCommand) -> None:
        """Write down how a command ended and tell it; waits for room on the disk, unless nobody waits any more."""
        while (known := self._known.get(command.topic)) is not None and known.status is not Status.CLEARED:
            try:
                await self._keep(command)
            except QedgeError as error:
                if not error.code.startswith("store."):
                    raise
                await asyncio.sleep(_RETRY_S)
            else:
                await self._tell(command)
                return

    async def _keep(self, command: LocalCommand) -> None:
        await self._journal.keep(command, self._clock.utc_ns())
        self._known.pop(command.topic, None)  # so that the newest stand at the end
        self._known[command.topic] = command
        if len(self._known) > MOST_KNOWN:
            oldest = next((each for each in self._known.values() if each.status in PAST), None)
            if oldest is not None:
                del self._known[oldest.topic]
                self._untold.discard(oldest.topic)
        _LOG.info(
            "adapter.command",
            adapter="thin-edge",
            kind=command.kind,
            command=command.id,
            state=command.status.value,
            reason=str(command.fields.get("reason", "")),
        )

    async def _tell(self, command: LocalCommand) -> None:
        """Publish a state; where the broker is not there it is told after the next connection."""
        try:
            await self._publish(command.topic, command.payload)
        except QedgeError:
            if command.topic in self._known:
                self._untold.add(command.topic)
        else:
            self._untold.discard(command.topic)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _guarded(work: Awaitable[None]) -> None:
        try:
            await work
        except QedgeError as error:  # the journal cannot be written: the command stays begun
            _LOG.warning("adapter.command", adapter="thin-edge", kind="", command="", state="", reason=str(error))
