"""What the workers need from the rest of the node."""

from __future__ import annotations

from typing import Protocol


class AdminStates(Protocol):
    """Keeps what the operator wants of each driver, across restarts."""

    async def get(self, instance: str) -> str:
        """Return `unlocked` (also where nothing is kept) or `locked`."""
        ...

    async def set(self, instance: str, state: str) -> None:
        """Keep a state."""
        ...
