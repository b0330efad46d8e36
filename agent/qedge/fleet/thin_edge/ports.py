"""What the adapter needs from those that carry out commands, and from where it writes them down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from qedge.fleet.thin_edge.commands import LocalCommand
from qedge.fleet.thin_edge.mapping import Json


class LocalOperation(Protocol):
    """Carries out one kind of local command. Commands of one kind run one after the other."""

    @property
    def kind(self) -> str:
        """Name as thin-edge.io has it: `restart`, `config_snapshot`, …"""
        ...

    @property
    def about(self) -> Mapping[str, Json]:
        """What its capability tells, as `{"types": […]}`."""
        ...

    @property
    def time_limit_s(self) -> float:
        """How long one may take."""
        ...

    async def run(self, command: LocalCommand) -> Mapping[str, Json]:
        """Do it and return fields for its end state. Raises `QedgeError` where it failed; may be cancelled."""
        ...

    async def recover(self, command: LocalCommand) -> Mapping[str, Json] | None:
        """Say how one ended that was begun before the daemon started; None: it was interrupted and has failed."""
        ...


class CommandJournal(Protocol):
    """Where commands are written down; on the disk when a call returns. Raises `store.*`."""

    async def open(self, since_utc_ns: int) -> Sequence[LocalCommand]:
        """Return all commands that are known, without those that ended before `since_utc_ns`."""
        ...

    async def keep(self, command: LocalCommand, utc_ns: int) -> None:
        """Write a command down, or its newer state."""
        ...
