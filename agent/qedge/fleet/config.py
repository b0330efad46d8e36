"""`[fleet]`: what connects this node to those who manage many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from qedge.fleet.home_assistant.config import HomeAssistantConfig
from qedge.fleet.telemetry.config import TelemetryConfig
from qedge.fleet.thin_edge.config import ThinEdgeConfig


class FleetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[fleet]`: telemetry and adapters."""

    telemetry: TelemetryConfig = TelemetryConfig()
    thin_edge: ThinEdgeConfig = ThinEdgeConfig()
    home_assistant: HomeAssistantConfig = HomeAssistantConfig()


FLEET_SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "fleet.telemetry": TelemetryConfig,
    "fleet.thin_edge": ThinEdgeConfig,
    "fleet.home_assistant": HomeAssistantConfig,
}
"""Sections as the reference lists them."""
