"""What the room of commands needs from those that carry them out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from qedge.bus.model import Handler, OnSession
from qedge.wire.commands import CommandRequest, OperatorRole

Progress = Callable[[str, float], Awaitable[None]]
"""Tell a step and how much of all is done (0 to 1); it is on the disk when this returns."""


class AfterCrash(StrEnum):
    """What becomes of a command that the daemon finds begun when it starts."""

    RERUN = "rerun"
    """It is begun anew: doing it twice is the same as doing it once."""

    CHECK = "check"
    """Its executor looks at the box and says how it ended, or goes on with it."""

    FAIL = "fail"
    """It has failed: interrupted by a restart."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an executor found of a command that was begun before the daemon started.

    `go_on` True: it is to be run again with `Executor.run`; otherwise `result` is its end.
    """

    go_on: bool = False
    result: msgspec.Struct | None = None


class Executor(Protocol):
    """Carries out one kind of command.

    Commands of one `lane` run one after the other, lanes run beside each other; `two_persons` kinds need an approval
    where the node's configuration asks for it.
    """

    @property
    def kind(self) -> str:
        """Name of the kind, as in `CommandRequest.kind`."""
        ...

    @property
    def lane(self) -> str:
        """Name of the queue that it waits in."""
        ...

    @property
    def role(self) -> OperatorRole:
        """What the operator's certificate has to name."""
        ...

    @property
    def after_crash(self) -> AfterCrash:
        """What becomes of it when the daemon died while it ran."""
        ...

    @property
    def two_persons(self) -> bool:
        """Whether it is one of those for which a second person may be asked."""
        ...

    @property
    def time_limit_s(self) -> float:
        """How long it may take where the request does not say."""
        ...

    def check(self, request: CommandRequest) -> None:
        """Raise `QedgeError` where the arguments are wrong. Touches nothing."""
        ...

    async def run(self, request: CommandRequest, progress: Progress) -> msgspec.Struct | None:
        """Do it; returns what the operator wants to know. Raises `QedgeError` where it failed; may be cancelled."""
        ...

    async def recover(self, request: CommandRequest) -> Recovered:
        """Say how a command ended that was begun before the daemon started (`AfterCrash.CHECK` only)."""
        ...


class Auditor(Protocol):
    """Where acts of operators are written down."""

    async def keep(self, *, command: str, kind: str, operator: str, decision: str, why: str) -> None:
        """Write down that a command was accepted, refused or ended; raises `audit.unavailable`."""
        ...


class Line(Protocol):
    """The connection to the broker, as `qedge.bus.service.Bus` has it."""

    def subscribe(self, pattern: str, handler: Handler, /, *, retained: bool = False) -> None:
        """Hand every message on `pattern` to `handler`."""
        ...

    def read_again(self, pattern: str, /) -> None:
        """Have the broker send once more what it keeps."""
        ...

    def on_session(self, hook: OnSession, /) -> None:
        """Call `hook` after every connection."""
        ...

    async def publish(self, topic: str, payload: bytes, /, *, qos: int, retain: bool = False) -> None:
        """Publish; returns once the broker has it. Raises `bus.*`."""
        ...
