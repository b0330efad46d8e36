"""Nouns of the ledger: the states of a lease at both ends, as tables. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from qedge.base.machine import StateTable


class LeaseState(StrEnum):
    """A lease as the owner of the job holds it. `LAPSED`: the runner was not heard of, and the owner waits for it."""

    OFFERED = "offered"
    HELD = "held"
    LAPSED = "lapsed"
    LOST = "lost"
    ENDED = "ended"


class LeaseEvent(StrEnum):
    """What happens to a lease."""

    CLAIMED = "claimed"
    RENEWED = "renewed"
    REFUSED = "refused"
    SILENT = "silent"
    GIVEN_UP = "given_up"
    RESULT = "result"


LEASE_STATES: Final = StateTable(
    "lease of a job",
    LeaseState.OFFERED,
    frozenset({LeaseState.LOST, LeaseState.ENDED}),
    {
        (LeaseState.OFFERED, LeaseEvent.CLAIMED): LeaseState.HELD,
        (LeaseState.OFFERED, LeaseEvent.RENEWED): LeaseState.HELD,
        (LeaseState.OFFERED, LeaseEvent.REFUSED): LeaseState.LOST,
        (LeaseState.OFFERED, LeaseEvent.SILENT): LeaseState.LAPSED,
        (LeaseState.OFFERED, LeaseEvent.GIVEN_UP): LeaseState.LOST,
        (LeaseState.OFFERED, LeaseEvent.RESULT): LeaseState.ENDED,
        (LeaseState.HELD, LeaseEvent.CLAIMED): LeaseState.HELD,
        (LeaseState.HELD, LeaseEvent.RENEWED): LeaseState.HELD,
        (LeaseState.HELD, LeaseEvent.REFUSED): LeaseState.LOST,
        (LeaseState.HELD, LeaseEvent.SILENT): LeaseState.LAPSED,
        (LeaseState.HELD, LeaseEvent.GIVEN_UP): LeaseState.LOST,
        (LeaseState.HELD, LeaseEvent.RESULT): LeaseState.ENDED,
        (LeaseState.LAPSED, LeaseEvent.CLAIMED): LeaseState.HELD,
        (LeaseState.LAPSED, LeaseEvent.RENEWED): LeaseState.HELD,
        (LeaseState.LAPSED, LeaseEvent.REFUSED): LeaseState.LOST,
        (LeaseState.LAPSED, LeaseEvent.GIVEN_UP): LeaseState.LOST,
        (LeaseState.LAPSED, LeaseEvent.RESULT): LeaseState.ENDED,
    },
)


class HoldState(StrEnum):
    """A lease as its runner holds it. `OVERDUE`: its time is over, and what comes of the job waits for the owner."""

    VALID = "valid"
    OVERDUE = "overdue"
    STOPPED = "stopped"
    TOLD = "told"


class HoldEvent(StrEnum):
    """What happens to a lease at its runner."""

    RENEWED = "renewed"
    OFFERED_ANEW = "offered_anew"
    TIME_OVER = "time_over"
    STALE = "stale"
    HEARD = "heard"


HOLD_STATES: Final = StateTable(
    "lease at the runner",
    HoldState.VALID,
    frozenset({HoldState.STOPPED, HoldState.TOLD}),
    {
        (HoldState.VALID, HoldEvent.RENEWED): HoldState.VALID,
        (HoldState.VALID, HoldEvent.OFFERED_ANEW): HoldState.VALID,
        (HoldState.VALID, HoldEvent.TIME_OVER): HoldState.OVERDUE,
        (HoldState.VALID, HoldEvent.STALE): HoldState.STOPPED,
        (HoldState.VALID, HoldEvent.HEARD): HoldState.TOLD,
        (HoldState.OVERDUE, HoldEvent.RENEWED): HoldState.VALID,
        (HoldState.OVERDUE, HoldEvent.OFFERED_ANEW): HoldState.VALID,
        (HoldState.OVERDUE, HoldEvent.STALE): HoldState.STOPPED,
        (HoldState.OVERDUE, HoldEvent.HEARD): HoldState.TOLD,
    },
)


@dataclass(slots=True, eq=False)
class Grant:
    """One lease that an owner gave: to whom, under which epoch, and until when it counts without being renewed.

    `patient`: its owner waits for this runner (`until_ns` then only says since when it is silent). `asked_ns`: when the
    job was first offered under it (0: not yet, as far as this daemon knows). Times are of the boot-time clock.
    """

    runner: str
    epoch: int
    until_ns: int
    heard_ns: int
    patient: bool = False
    state: LeaseState = LeaseState.OFFERED
    asked_ns: int = 0

    def happen(self, event: LeaseEvent) -> None:
        """Change the state as the table says."""
        self.state = LEASE_STATES.next(self.state, event)


@dataclass(slots=True, eq=False)
class Hold:
    """One lease that a runner took. `client` is the name under which the job stands in the runner's own queue.

    `asked` is the hash of what this owner asked for under this epoch, until its result has been told; else empty.
    """

    job_id: str
    owner: str
    epoch: int
    holders: tuple[str, ...]
    lease_ns: int
    until_ns: int
    client: str
    state: HoldState = HoldState.VALID
    asked: bytes = b""

    def happen(self, event: HoldEvent) -> None:
        """Change the state as the table says."""
        self.state = HOLD_STATES.next(self.state, event)
