"""What the mesh needs from the rest of the node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from qedge.wire.node import DriverView


class Capabilities(Protocol):
    """What the node can do now."""

    def drivers(self) -> Sequence[DriverView]:
        """Describe all configured drivers, up or not."""
        ...
