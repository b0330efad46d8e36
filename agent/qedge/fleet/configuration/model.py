"""Nouns of staged configuration, and its state table."""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import Final

import msgspec

from qedge.base.machine import StateTable
from qedge.wire.configuration import ConfigurationOutcome, ConfigurationStep

MAX_UNDO: Final = 3
"""Layers that are kept to go back to."""


class ChangeEvent(StrEnum):
    """What happens to a change."""

    WRITTEN = "written"
    WELL = "well"
    UNWELL = "unwell"
    RESTORED = "restored"


CHANGE_STEPS: Final = StateTable(
    name="change of the configuration",
    initial=ConfigurationStep.WRITING,
    final=frozenset({ConfigurationStep.GOOD, ConfigurationStep.ROLLED_BACK}),
    rows={
        (ConfigurationStep.WRITING, ChangeEvent.WRITTEN): ConfigurationStep.TRIAL,
        (ConfigurationStep.WRITING, ChangeEvent.UNWELL): ConfigurationStep.RESTORING,
        (ConfigurationStep.TRIAL, ChangeEvent.WELL): ConfigurationStep.GOOD,
        (ConfigurationStep.TRIAL, ChangeEvent.UNWELL): ConfigurationStep.RESTORING,
        (ConfigurationStep.RESTORING, ChangeEvent.RESTORED): ConfigurationStep.ROLLED_BACK,
    },
)


class ConfigurationLayer(msgspec.Struct, frozen=True):
    """The text of one layer under its serial."""

    serial: int
    sha256: str
    text: str

    @classmethod
    def of(cls, serial: int, text: str) -> ConfigurationLayer:
        """Make a layer of its text."""
        return cls(serial, digest(text), text)


def digest(text: str) -> str:
    """Return SHA-256 (FIPS 180-4) of a text in UTF-8, in hex."""
    return sha256(text.encode()).hexdigest()


class Baseline(msgspec.Struct, frozen=True):
    """How the node was before a change.

    By name: drivers that were `up` or about to be, drivers that the change touches, services that were not ready
    anyhow; and whether the broker was connected.
    """

    up: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()
    unready: tuple[str, ...] = ()
    connected: bool = False


class ConfigurationChange(msgspec.Struct, frozen=True):
    """A change under way: from `before` to `target`, either None where no layer of the fleet is.

    `rollback`: it goes back to an earlier layer. `starts` counts how often the daemon was started while it was under
    way, `max_starts` is the limit that held when it began: a new configuration must not loosen its own trial.
    """

    target: ConfigurationLayer | None
    before: ConfigurationLayer | None
    asked: int
    rollback: bool
    command: str
    baseline: Baseline
    limit_s: float
    hold_s: float
    max_starts: int
    began_utc_ns: int
    step: ConfigurationStep = ConfigurationStep.WRITING
    starts: int = 0
    code: str = ""
    reason: str = ""


class ConfigurationBook(msgspec.Struct, frozen=True, tag_field="type", tag="configuration-book/1"):
    """All that has to be known after a crash; one file, written as a whole.

    `undo` are the layers before the one in force, newest first. `sections` are digests of the effective settings by
    section, of the time when the last change ended well.
    """

    highest: int = 0
    staged: ConfigurationLayer | None = None
    in_force: ConfigurationLayer | None = None
    undo: tuple[ConfigurationLayer | None, ...] = ()
    change: ConfigurationChange | None = None
    last: ConfigurationOutcome | None = None
    sections: dict[str, str] = {}

    @property
    def wanted(self) -> ConfigurationLayer | None:
        """The layer whose text the file should have now."""
        if self.change is None:
            return self.in_force
        return self.change.before if self.change.step is ConfigurationStep.RESTORING else self.change.target
