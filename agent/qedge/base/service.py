"""What the supervisor runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Ready = Callable[[], None]
"""Called once by a service when it does what its name says; calling it again has no effect."""


class Service(Protocol):
    """Returning from `run` means finished, raising means restart me, being cancelled means stop."""

    @property
    def name(self) -> str:
        """Short name for logs, metrics and status: letters, digits, `-`."""
        ...

    async def run(self, ready: Ready) -> None:
        """Do the work until cancelled; call `ready` once the work can be asked for."""
        ...
