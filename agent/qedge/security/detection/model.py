"""The nouns of detection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qedge.security.model import Evidence

WINDOW_S: Final = 5.0
SLICES: Final = 100
"""A window of a device ends every 5 s; the devices are dealt to 100 slices whose windows end one after the other, so
that no moment has much to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something odd about a device or, where `device` is empty, an address. `severity` 0 … 1, `detail` in words."""

    evidence: Evidence
    severity: float
    detail: str
    device: str = ""
    address: str = ""
