"""Nouns of commands: the phases of one, and a row of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from qedge.base.machine import StateTable
from qedge.wire.commands import CommandReport, CommandState, FleetCommandView


class Phase(StrEnum):
    """Where a command stands in the journal; finer than what is told of it.

    `STARTING` is being told to the operator and has done nothing yet; from `RUNNING` on it may have. `NEW` is never
    written down.
    """

    NEW = "new"
    HELD = "held"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    SUCCESSFUL = "successful"
    FAILED = "failed"


class Turn(StrEnum):
    """What happens to a command."""

    ACCEPT = "accepted"
    HOLD = "wants a second person"
    APPROVE = "a second person approves"
    BEGIN = "its turn comes"
    TELL = "the broker knows that it begins"
    STEP = "a step"
    AGAIN = "begun anew after a crash"
    SUCCEED = "carried out"
    FAIL = "refused, cancelled, too late or failed"


ENDS: Final = frozenset({Phase.SUCCESSFUL, Phase.FAILED})

COMMAND_STATES: Final = StateTable(
    "command of a fleet operator",
    Phase.NEW,
    ENDS,
    {
        (Phase.NEW, Turn.ACCEPT): Phase.WAITING,
        (Phase.NEW, Turn.HOLD): Phase.HELD,
        (Phase.NEW, Turn.FAIL): Phase.FAILED,
        (Phase.HELD, Turn.APPROVE): Phase.WAITING,
        (Phase.HELD, Turn.FAIL): Phase.FAILED,
        (Phase.WAITING, Turn.BEGIN): Phase.STARTING,
        (Phase.WAITING, Turn.FAIL): Phase.FAILED,
        (Phase.STARTING, Turn.AGAIN): Phase.STARTING,
        (Phase.STARTING, Turn.TELL): Phase.RUNNING,
        (Phase.STARTING, Turn.FAIL): Phase.FAILED,
        (Phase.RUNNING, Turn.STEP): Phase.RUNNING,
        (Phase.RUNNING, Turn.AGAIN): Phase.STARTING,
        (Phase.RUNNING, Turn.SUCCEED): Phase.SUCCESSFUL,
        (Phase.RUNNING, Turn.FAIL): Phase.FAILED,
    },
)
"""The life of a command; the journal takes nothing else."""

NEXT: Final[Mapping[Phase, frozenset[Phase]]] = {
    phase: frozenset(after for (before, _), after in COMMAND_STATES.rows.items() if before is phase) for phase in Phase
}
"""What may follow what; ends have no successors."""

_TOLD: Final[Mapping[Phase, CommandState]] = {
    Phase.NEW: CommandState.INIT,
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

    `approvals` are the second persons as `name:key-id`, with blanks between them.
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
    issued_utc_ns: int
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

    @property
    def approver_names(self) -> tuple[str, ...]:
        """Who approved it."""
        return tuple(each.partition(":")[0] for each in self.approvals.split())

    @property
    def approver_keys(self) -> tuple[str, ...]:
        """Ids of the keys with which it was approved, as far as they were written down."""
        return tuple(key for each in self.approvals.split() if (key := each.partition(":")[2]))


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
        entry.approver_names,
        entry.step,
        entry.progress,
        entry.code,
        entry.reason,
        entry.note,
        entry.result,
    )
