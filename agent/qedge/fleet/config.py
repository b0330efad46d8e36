"""`[fleet]`: how this node is managed from afar; each table lives beside the code that reads it."""

from __future__ import annotations

import msgspec

from qedge.fleet.configuration.config import ConfigurationConfig


class FleetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[fleet]`: how this node is managed from afar."""

    configuration: ConfigurationConfig = ConfigurationConfig()
