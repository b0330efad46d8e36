"""`[fleet]`: how this node is managed from afar; tables below it live beside the code that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from qedge.fleet.configuration.config import ConfigurationConfig
from qedge.fleet.home_assistant.config import HomeAssistantConfig
from qedge.fleet.sparkplug.config import SparkplugConfig
from qedge.fleet.telemetry.config import TelemetryConfig
from qedge.fleet.thin_edge.config import ThinEdgeConfig

_Kind = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,36}\Z", title="the name of a kind of command")]


class FleetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[fleet]`: commands of fleet operators."""

    enabled: Annotated[
        bool, msgspec.Meta(description="Whether the node takes commands of the fleet's operators over MQTT.")
    ] = True
    two_persons: Annotated[
        tuple[_Kind, ...],
        msgspec.Meta(
            description="Kinds of commands that begin only with the approval of a second operator; wipe always does.",
            max_length=64,
        ),
    ] = ("wipe",)
    synchronised_clock: Annotated[
        bool,
        msgspec.Meta(
            description="Whether commands of the role security are refused while the kernel says that nothing "
            "synchronises its clock."
        ),
    ] = True
    clock_skew_s: Annotated[
        float, msgspec.Meta(description="How far clocks of operators may be ahead of the node's.", ge=0, le=3600)
    ] = 120.0
    max_waiting: Annotated[
        int, msgspec.Meta(description="Commands that wait at most, in all lanes.", ge=1, le=4096)
    ] = 256
    max_kept: Annotated[
        int, msgspec.Meta(description="Commands that are remembered at most; more are refused.", ge=16, le=100_000)
    ] = 4096
    keep_days: Annotated[
        float, msgspec.Meta(description="Days for which a command that has ended is shown.", ge=0.01, le=365)
    ] = 7.0
    checks_per_s: Annotated[
        float,
        msgspec.Meta(
            description="Bad signatures of commands that are looked at in a second; what is over waits for a calm one.",
            ge=1,
            le=10_000,
        ),
    ] = 20.0
    configuration: ConfigurationConfig = ConfigurationConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    thin_edge: ThinEdgeConfig = ThinEdgeConfig()
    home_assistant: HomeAssistantConfig = HomeAssistantConfig()
    sparkplug: SparkplugConfig = SparkplugConfig()


FLEET_SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "fleet": FleetConfig,
    "fleet.configuration": ConfigurationConfig,
    "fleet.telemetry": TelemetryConfig,
    "fleet.thin_edge": ThinEdgeConfig,
    "fleet.home_assistant": HomeAssistantConfig,
    "fleet.sparkplug": SparkplugConfig,
}
"""Sections as the reference lists them."""
