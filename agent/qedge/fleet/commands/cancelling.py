"""The kind `cancel`: it ends another command, whatever that waits for or does."""

from __future__ import annotations

from typing import Final

import msgspec

from qedge.fleet.commands.intake import CANCEL, read_cancel
from qedge.fleet.commands.journal import Journal
from qedge.fleet.commands.ports import AfterCrash, Progress, Recovered
from qedge.fleet.commands.running import Runner
from qedge.wire.commands import CancelCommand, CommandRequest, OperatorRole

_LIMIT_S: Final = 30.0


class Cancel:
    """`cancel`: end another command, whatever it waits for or does.

    Who may order a command may cancel it, so its own role counts only for kinds that this version does not know.
    """

    kind = CANCEL
    lane = CANCEL
    role = OperatorRole.OPERATOR
    after_crash = AfterCrash.RERUN
    two_persons = False
    time_limit_s = _LIMIT_S
    arguments = CancelCommand
    answers = None

    def __init__(self, runner: Runner, journal: Journal) -> None:
        self._runner = runner
        self._journal = journal

    def check(self, request: CommandRequest) -> None:
        """Raise `order.bad_arguments` where they name no command."""
        read_cancel(request)

    async def run(self, request: CommandRequest, _progress: Progress) -> msgspec.Struct | None:
        """End the command; raises `order.not_found`, `order.ended`."""
        own = await self._journal.get(request.id)
        await self._runner.cancel(read_cancel(request).id, own.operator if own is not None else "")
        return None

    async def recover(self, _request: CommandRequest) -> Recovered:
        """Begin anew."""
        return Recovered(go_on=True)
