"""What the adapter needs to know of the program that runs, and of newer ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SoftwareView:
    """`latest` is the newest version that is offered on the box, or the installed one."""

    installed: str
    latest: str
    in_progress: bool = False


class Software(Protocol):
    """The program, and how to replace it."""

    async def look(self) -> SoftwareView:
        """Look at what is offered and under way."""
        ...

    async def install(self) -> None:
        """Install the newest version that is offered; the node is restarted on the way. Raises `QedgeError`."""
        ...
