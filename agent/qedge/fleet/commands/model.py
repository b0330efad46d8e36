"""Nouns of commands: the phases of one, and a row of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from qedge.wire.commands import CommandReport, CommandState, FleetCommandView


class Phase(StrEnum):
    """Where a command stands in the journal; finer than what is told of it.

    `STARTING` is being told to the operator and has done nothing yet; from `RUNNING` on it may have.
    """

    HELD = "held"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    SUCCESSFUL = "successful"
    FAILED = "failed"


ENDS: Final = frozenset({Phase.SUCCESSFUL, Phase.FAILED})

NEXT: Final[Mapping[Phase | None, frozenset[Phase]]] = {
    None: frozenset({Phase.HELD, Phase.WAITING, Phase.FAILED}),
    Phase.HELD: frozenset({Phase.WAITING, Phase.FAILED}),
    Phase.WAITING: frozenset({Phase.STARTING, Phase.FAILED}),
    # a crash, or a policy to begin anew, leads back to the start
    Phase.STARTING: frozenset({Phase.STARTING, Phase.RUNNING, Phase.FAILED}),
    Phase.RUNNING: frozenset({Phase.STARTING, Phase.RUNNING, Phase.SUCCESSFUL, Phase.FAILED}),
    Phase.SUCCESSFUL: frozenset(),
    Phase.FAILED: frozenset(),
}
"""What may follow what; None: the command is not known yet. Ends have no successors."""

_TOLD: Final[Mapping[Phase, CommandState]] = {
    Phase.HELD: CommandState.INIT,
    Phase.WAITING: CommandState.INIT,
    Phase.STARTING: CommandState.EXECUTING,
    Phase.RUNNING: CommandState.EXECUTING,
    Phase.SUCCESSFUL: CommandState.SUCCESSFUL,
    Phase.FAILED: CommandState.FAILED,
}

HELD_STEP: Final = "waits for a second person"
WAITING_STEP: Final = "waits for its turn"


@dataclass(frozen=True, slots=True)
class Entry:
    """One command. `digest` is SHA3-256 of the signed request, `request` the encoded one, empty once it is forgotten.

    `boot_id` and `epoch` are of the run of the node in which it was begun last; `told` is the newest revision that the
    broker took; times are nanoseconds since 1970 UTC, 0: not yet.
    """

    id: str
    kind: str
    lane: str
    phase: Phase
    revision: int
    operator: str
    key_id: str
    serial: int
    digest: bytes
    request: bytes
    received_utc_ns: int
    expires_utc_ns: int
    began_utc_ns: int = 0
    ended_utc_ns: int = 0
    boot_id: str = ""
    epoch: int = 0
    told: int = -1
    approvals: str = ""
    step: str = ""
    progress: float = 0.0
    code: str = ""
    reason: str = ""
    note: str = ""
    result: bytes = b""

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self.phase in ENDS


def report_of(entry: Entry, utc_ns: int) -> CommandReport:
    """Say of a command what operators are told."""
    return CommandReport(
        entry.id,
        entry.kind,
        str(_TOLD[entry.phase]),
        entry.revision,
        utc_ns,
        operator=entry.operator,
        step=entry.step[:200],
        progress=min(1.0, max(0.0, entry.progress)),
        reason=entry.reason[:200],
        code=entry.code,
        result=entry.result,
    )


def view_of(entry: Entry) -> FleetCommandView:
    """Describe a command for the operator's programs on the box."""
    return FleetCommandView(
        entry.id,
        entry.kind,
        entry.lane,
        str(_TOLD[entry.phase]),
        str(entry.phase),
        entry.operator,
        entry.key_id,
        entry.serial,
        entry.revision,
        entry.received_utc_ns,
        entry.began_utc_ns,
        entry.ended_utc_ns,
        entry.expires_utc_ns,
        tuple(entry.approvals.split()),
        entry.step,
        entry.progress,
        entry.code,
        entry.reason,
        entry.note,
        entry.result,
    )
