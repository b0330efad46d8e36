"""`[fleet]`: how this node is managed from afar; each table lives beside the code that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from qedge.fleet.sparkplug.config import SparkplugConfig


class FleetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[fleet]`: how this node is managed from afar."""

    sparkplug: SparkplugConfig = SparkplugConfig()


FLEET_SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "fleet.sparkplug": SparkplugConfig,
}
"""Sections as the reference lists them."""
