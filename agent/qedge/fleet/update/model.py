"""The steps of an update and what is remembered between them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.machine import StateTable
from qedge.wire.update import FileName, OrderId, UpdateReport

SLOTS: Final = ("a", "b")
GATE_S: Final = 40.0
"""Time in which the new version must be well. With an old one that takes its ten seconds to stop, and the way back,
a bad update is over within a minute."""

CALM_S: Final = 3.0
"""It must stay well for so long, in one process."""

MAX_ENDS: Final = 2
"""Times that the new version may end by itself before it is given up."""

MAX_STARTS: Final = 3
"""Times that the updater may begin anew: a version that takes the box down with it is given up."""


class Step(StrEnum):
    """What has been done; the last three are ends."""

    REQUESTED = "requested"
    TAKEN = "taken"
    BUILT = "built"
    TRIED = "tried"
    SWITCHED = "switched"
    REVERTING = "reverting"
    KEPT = "kept"
    ROLLED_BACK = "rolled-back"
    REFUSED = "refused"


class Event(StrEnum):
    """How the work that follows a step ended."""

    DONE = "done"
    FAILED = "failed"


STEPS: Final = StateTable(
    "software update",
    Step.REQUESTED,
    frozenset({Step.KEPT, Step.ROLLED_BACK, Step.REFUSED}),
    {
        (Step.REQUESTED, Event.DONE): Step.TAKEN,
        (Step.REQUESTED, Event.FAILED): Step.REFUSED,
        (Step.TAKEN, Event.DONE): Step.BUILT,
        (Step.TAKEN, Event.FAILED): Step.REFUSED,
        (Step.BUILT, Event.DONE): Step.TRIED,
        (Step.BUILT, Event.FAILED): Step.REFUSED,
        (Step.TRIED, Event.DONE): Step.SWITCHED,
        # the service was stopped perhaps, so it has to be brought back whatever failed
        (Step.TRIED, Event.FAILED): Step.REVERTING,
        (Step.SWITCHED, Event.DONE): Step.KEPT,
        (Step.SWITCHED, Event.FAILED): Step.REVERTING,
        (Step.REVERTING, Event.DONE): Step.ROLLED_BACK,
    },
)

SHARE: Final = {
    Step.REQUESTED: 0.3,
    Step.TAKEN: 0.4,
    Step.BUILT: 0.7,
    Step.TRIED: 0.8,
    Step.SWITCHED: 0.85,
    Step.REVERTING: 0.9,
}
"""How much of a whole update lies behind each step, for those who watch; fetching the bundle is the first part."""


class Journal(msgspec.Struct, frozen=True):
    """What the updater writes down before and after each step. `old` and `new` are slots.

    `starts` counts how often the updater began anew; `gate_s` and `down_s` as in the report. `local` is
    true for what root ordered on the box itself, whose bundle has been taken already; `back` goes to what is in the
    other slot. `sha256` is empty for what is local.
    """

    id: OrderId
    bundle: FileName
    sha256: str
    old: str
    new: str
    step: Step = Step.REQUESTED
    version: str = ""
    previous: str = ""
    starts: int = 0
    code: str = ""
    reason: str = ""
    gate_s: float = 0.0
    down_s: float = 0.0
    databases: tuple[str, ...] = ()
    local: bool = False
    back: bool = False


class EndedUpdate(msgspec.Struct, frozen=True):
    """An update that has ended, as the updater remembers it for the audit log; `local` and `back` as in `Journal`."""

    report: UpdateReport
    local: bool = False
    back: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is. `root` is written by root alone; `state` belongs to the service and is not trusted."""

    root: Path = Path("/opt/qedge")
    state: Path = Path("/var/lib/qedge")
    keys: Path = Path("/etc/qedge/release-keys")
    socket: Path = Path("/run/qedge/qedge.sock")

    @property
    def current(self) -> Path:
        """The link to the slot that the service runs."""
        return self.root / "current"

    @property
    def kept(self) -> Path:
        """The link to the slot that was last found well: the updater itself runs from it."""
        return self.root / "kept"

    @property
    def work(self) -> Path:
        """The updater's own folder: journal, report, the bundle as it was taken."""
        return self.root / "update"

    @property
    def offered(self) -> Path:
        """The folder of bundles that local tools may have installed."""
        return self.state / "offered"

    @property
    def staging(self) -> Path:
        """The folder in which the daemon leaves bundles and its request."""
        return self.state / "update"

    def slot(self, name: str) -> Path:
        """Return the environment of a slot."""
        return self.root / name


@dataclass(frozen=True, slots=True)
class ServiceView:
    """How the service manager sees the service.

    `pid` 0: no process; `ends` counts those that ended by themselves; `program` is the interpreter that runs it.
    """

    active: bool
    failed: bool
    pid: int
    ends: int
    program: str = ""
