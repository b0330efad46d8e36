"""What the configuration of the fleet needs from the daemon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from qedge.fleet.configuration.gate import Vitals
from qedge.wire.configuration import SettingRow


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a layer without faults would change: sections, those for which the daemon restarts, and drivers by name."""

    changed: tuple[str, ...]
    restart: tuple[str, ...]
    drivers: tuple[str, ...]


class NodeSettings(Protocol):
    """The settings of the running daemon."""

    async def check(self, text: str | None) -> Candidate:
        """Check a layer (None: none at all) together with all other files, as `qedge check` does.

        Raises `configuration.rejected` with the key path of the first fault.
        """
        ...

    async def take_over(self) -> None:
        """Read all files again and take over what can change in a running daemon; raises `config.*`."""
        ...

    @property
    def layer_sha256(self) -> str:
        """Digest of the layer that the daemon has read; empty: none."""
        ...

    @property
    def restart_due(self) -> bool:
        """Whether something that was read waits for a restart."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether the daemon stops or restarts."""
        ...

    def restart(self) -> None:
        """Have the daemon stop in order and begin anew; returns at once."""
        ...

    def vitals(self) -> Vitals:
        """Say how the node is."""
        ...

    def given(self) -> Mapping[str, object]:
        """Return what the files that the daemon has read say together, without defaults."""
        ...

    def rows(self) -> tuple[SettingRow, ...]:
        """Return all effective settings with their origin, without secrets."""
        ...

    def files(self) -> tuple[str, ...]:
        """Return the files that the daemon has read, in order of rising precedence."""
        ...
