"""What the QKD links need from the rest of the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from qedge.workers.model import Msg


class TransceiverPort(Protocol):
    """One end of a fibre behind its worker; answers are checked again here, whoever gave them."""

    @property
    def name(self) -> str:
        """Name of the driver instance."""
        ...

    @property
    def is_up(self) -> bool:
        """Whether it may be called now."""
        ...

    async def call(self, method: str, args: Mapping[str, Msg], *, deadline_s: float) -> Msg:
        """Call `read_block`, `preparations` or `release` of the driver; raises `QedgeError`."""
        ...
