"""`[fleet]`: how this node is managed from afar; each table lives beside the code that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from qedge.fleet.commands.config import CommandsConfig
from qedge.fleet.configuration.config import ConfigurationConfig
from qedge.fleet.home_assistant.config import HomeAssistantConfig
from qedge.fleet.renewal.config import RenewalConfig
from qedge.fleet.sparkplug.config import SparkplugConfig
from qedge.fleet.telemetry.config import TelemetryConfig
from qedge.fleet.thin_edge.config import ThinEdgeConfig


class FleetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[fleet]`: how this node is managed from afar."""

    commands: CommandsConfig = CommandsConfig()
    configuration: ConfigurationConfig = ConfigurationConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    thin_edge: ThinEdgeConfig = ThinEdgeConfig()
    home_assistant: HomeAssistantConfig = HomeAssistantConfig()
    sparkplug: SparkplugConfig = SparkplugConfig()
    renewal: RenewalConfig = RenewalConfig()


FLEET_SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "fleet.commands": CommandsConfig,
    "fleet.configuration": ConfigurationConfig,
    "fleet.telemetry": TelemetryConfig,
    "fleet.thin_edge": ThinEdgeConfig,
    "fleet.home_assistant": HomeAssistantConfig,
    "fleet.sparkplug": SparkplugConfig,
    "fleet.renewal": RenewalConfig,
}
"""Sections as the reference lists them."""
