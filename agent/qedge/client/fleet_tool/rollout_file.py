"""The file of a roll-out: its plan in the first line, then what happened, one line of JSON each.

Lines are only added, and seen onto the disk before what they announce is done. A last line that a crash cut off is
passed over and overwritten: what it announced was not done.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.client.fleet_tool.locked_file import LockedFile
from qedge.client.fleet_tool.rollout import Rollout
from qedge.client.fleet_tool.rollout_plan import Asked, Event, Passed, RolloutPlan

_ENCODE: Final = msgspec.json.Encoder().encode
_EVENT: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)
_PLAN: Final = msgspec.json.Decoder(RolloutPlan)


class RolloutFile:
    """An open roll-out, which no other process may work on meanwhile."""

    def __init__(self, file: LockedFile, rollout: Rollout, asked: dict[str, Asked]) -> None:
        self._file = file
        self.rollout = rollout
        self.asked = asked
        """Requests by their ids, to be made again as they were."""

    @classmethod
    def create(cls, path: Path, plan: RolloutPlan) -> RolloutFile:
        """Begin a roll-out; raises `fleet.folder`, also where there is one of this id."""
        file = LockedFile(path, new=True)
        file.append(_ENCODE(plan) + b"\n")
        return cls(file, Rollout(plan), {})

    @classmethod
    def open(cls, path: Path) -> RolloutFile:
        """Go on with a roll-out; raises `fleet.busy`, `fleet.rollout_damaged`, `fleet.no_rollout`."""
        if not path.exists():
            raise _none(path)
        file = LockedFile(path)
        try:
            data = file.read()
            rollout, asked, good = replay(data, path.name)
            if good < len(data):
                file.cut(good)
        except BaseException:
            file.close()
            raise
        return cls(file, rollout, asked)

    def take(self, events: Iterable[Event]) -> bool:
        """Tell the engine what happened, and write down what changed it; returns with that on the disk."""
        changed = [event for event in events if self.rollout.take(event)]
        self._write(changed)
        return bool(changed)

    def pass_time(self, utc_ns: int) -> bool:
        """Let time go by; says whether something was due."""
        return self.take((Passed(utc_ns),))

    def _write(self, events: list[Event]) -> None:
        self.asked |= {event.id: event for event in events if isinstance(event, Asked)}
        if events:
            self._file.append(b"".join(_ENCODE(event) + b"\n" for event in events))

    def close(self) -> None:
        """Let others work on it."""
        self._file.close()


def read_rollout(path: Path) -> Rollout:
    """Read where a roll-out stands, also while another process works on it; raises as `RolloutFile.open`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _none(path) from error
    return replay(data, path.name)[0]


def replay(data: bytes, name: str) -> tuple[Rollout, dict[str, Asked], int]:
    """Come to the state that a file tells; returns it, the requests by their ids and the length of what is whole."""
    good = data.rfind(b"\n") + 1
    lines = data[:good].split(b"\n")[:-1]
    asked: dict[str, Asked] = {}
    try:
        rollout = Rollout(_PLAN.decode(lines[0]))
        for line in lines[1:]:
            event = _EVENT.decode(line)
            rollout.take(event)
            if isinstance(event, Asked):
                asked[event.id] = event
    except (msgspec.DecodeError, IndexError, UnicodeDecodeError) as error:
        raise QedgeError(
            "fleet.rollout_damaged",
            f"The file of roll-out {name} was altered ({error}).",
            fix="Restore it; `qedge fleet audit` shows what was sent.",
        ) from error
    return rollout, asked, good


def _none(path: Path) -> QedgeError:
    return QedgeError(
        "fleet.no_rollout", f"There is no roll-out {path.stem} here.", fix="`qedge fleet rollout list` shows all."
    )
