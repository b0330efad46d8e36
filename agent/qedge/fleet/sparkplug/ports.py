"""What the Sparkplug edge node needs from others; the daemon fills it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from qedge.fleet.sparkplug.model import Past, Snapshot, Value


class Readings(Protocol):
    """What the node knows of itself and of its devices."""

    def snapshot(self, utc_ms: int) -> Snapshot | None:
        """Return all readings as they are; a device that is not there cannot be reached now. Must not raise.

        None: they cannot be told now, and nothing is published before they can.
        """
        ...


class Controls(Protocol):
    """Carries out what hosts write."""

    async def write(self, device: str, name: str, value: Value) -> None:
        """Write a metric; `device` empty: one of the node. Raises `QedgeError` where it is refused or fails."""
        ...


@dataclass(frozen=True, slots=True)
class Spooled:
    """A reading in the spool; ids rise with the time of writing."""

    id: int
    past: Past


class Spool(Protocol):
    """Readings that could not be sent in their time; on the disk, with limits of its own."""

    async def keep(self, rows: Sequence[Past]) -> None:
        """Append readings; raises `QedgeError` where they could not be kept."""
        ...

    async def batch(self, limit: int) -> Sequence[Spooled]:
        """Return the oldest readings, the oldest first; raises `QedgeError`."""
        ...

    async def done(self, up_to: int) -> None:
        """Erase all readings up to this id: the server has them. Raises `QedgeError`."""
        ...


class BdSeqKeep(Protocol):
    """Counts CONNECT packets, across restarts."""

    async def next(self) -> int:
        """Return the number of the next CONNECT, 0 to 255, and see it on the disk before; raises `OSError`."""
        ...
