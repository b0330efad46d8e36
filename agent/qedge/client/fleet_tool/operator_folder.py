"""The folder of an operator: key, serial counter, audit trail, roll-outs, and where the broker is.

`NAME.operator` is made by `qedge operator new`; `broker.toml` is written by hand or left out; the rest makes
itself. Several programs may use one folder at once.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.bus.config import BusConfig
from qedge.client.fleet_tool.locked_file import LockedFile
from qedge.client.fleet_tool.rollout_plan import Said
from qedge.client.fleet_tool.trail import TrailEntry, TrailLine, add, check_trail, read_end

KEY: Final = "*.operator"
BROKER: Final = "broker.toml"
_SERIAL: Final = "serial"
_TRAIL: Final = "audit.jsonl"
_ROLLOUTS: Final = "rollouts"
_TAIL_BYTES: Final = 64 * 1024
_MAX_BROKER_BYTES: Final = 64 * 1024


def account() -> str:
    """Return the name of the account that this program runs in; empty where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


class OperatorFolder:
    """One operator's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def key_path(self) -> Path:
        """Return the file of the operator's key; raises `fleet.folder` where there is none, or more than one."""
        found = sorted(self.path.glob(KEY))
        if len(found) != 1:
            raise QedgeError(
                "fleet.folder",
                f"{self.path} has {len(found) or 'no'} files that end in .operator; it has to have one.",
                fix="`qedge operator new NAME --out FOLDER/NAME.operator` makes one where the authority is.",
            )
        return found[0]

    def take_serials(self, number: int, utc_ns: int) -> range:
        """Return serials that nobody had before, on the disk as taken; raises `fleet.folder`.

        They begin with the time of the clock, so that a folder restored from an old copy does not use one twice.
        """
        with LockedFile(self.path / _SERIAL, wait=True) as file:
            text = file.read().strip()
            if text and not text.isdigit():
                raise QedgeError(
                    "fleet.folder", f"{self.path / _SERIAL} holds no number.", fix="Remove it: the clock stands in."
                )
            first = max(int(text or 0) + 1, utc_ns // 1000)
            file.replace(b"%d\n" % (first + number - 1))
        return range(first, first + number)

    def note(self, entries: Iterable[TrailEntry]) -> None:
        """Add to the audit trail; on the disk when this returns. Raises `fleet.folder`, `fleet.trail_damaged`."""
        with LockedFile(self.path / _TRAIL, wait=True) as file:
            tail = file.tail(_TAIL_BYTES)
            torn = len(tail) - (tail.rfind(b"\n") + 1)
            if torn:
                file.cut(file.size - torn)
            end = read_end(tail)
            if end is None:
                raise QedgeError(
                    "fleet.trail_damaged",
                    f"The last line of {self.path / _TRAIL} cannot be read.",
                    fix="Put the file aside; a new trail begins.",
                )
            file.append(add(end, entries)[0])

    def trail(self) -> tuple[tuple[TrailLine, ...], str]:
        """Read the audit trail; returns it with its first fault, empty where it is whole. Raises `fleet.folder`."""
        try:
            data = (self.path / _TRAIL).read_bytes()
        except FileNotFoundError:
            return (), ""
        except OSError as error:
            raise _unusable(self.path / _TRAIL, error) from error
        lines, fault = check_trail(data)
        return tuple(lines), fault

    def broker(self) -> BusConfig | None:
        """Read `broker.toml`, whose keys are those of `[broker]`; None without one. Raises `config.invalid`."""
        path = self.path / BROKER
        try:
            with path.open("rb") as file:
                table = tomllib.loads(file.read(_MAX_BROKER_BYTES).decode())
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise QedgeError("config.invalid", f"{path} cannot be read: {error}.", fix="See [broker].") from error
        try:
            return msgspec.convert(table, BusConfig)
        except msgspec.ValidationError as error:
            raise QedgeError("config.invalid", f"{path}: {error}.", fix="Its keys are those of [broker].") from error

    def rollout_path(self, rollout_id: str) -> Path:
        """Return the file of a roll-out; its folder is there afterwards. Raises `fleet.folder`."""
        folder = self.path / _ROLLOUTS
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unusable(folder, error) from error
        return folder / f"{rollout_id}.jsonl"

    def rollouts(self) -> list[str]:
        """Return the ids of all roll-outs, oldest first."""
        return sorted(path.stem for path in (self.path / _ROLLOUTS).glob("*.jsonl"))

    def leave_word(self, rollout_id: str, said: Said) -> None:
        """Leave a word for the program that works on a roll-out; raises `fleet.folder`."""
        path = self._word_path(rollout_id)
        draft = path.with_suffix(f".{os.getpid()}")
        try:
            draft.write_bytes(msgspec.json.encode(said))
            draft.replace(path)
        except OSError as error:
            raise _unusable(path, error) from error

    def take_word(self, rollout_id: str) -> Said | None:
        """Take the word that somebody left, once; None where there is none, or none that can be read."""
        path = self._word_path(rollout_id)
        taken = path.with_suffix(".taken")
        try:
            path.replace(taken)  # one that is left from now on is another file, and not removed with this one
            data = taken.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):
            taken.unlink()
        try:
            return msgspec.json.decode(data, type=Said)
        except msgspec.DecodeError:
            return None

    def _word_path(self, rollout_id: str) -> Path:
        return self.path / _ROLLOUTS / f"{rollout_id}.word"


def _unusable(path: Path, error: OSError) -> QedgeError:
    return QedgeError("fleet.folder", f"{path} cannot be used: {error.strerror or error}.", fix="Name another folder.")
