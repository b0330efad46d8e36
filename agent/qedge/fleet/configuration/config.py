"""Settings of configuration that the fleet gives."""

from __future__ import annotations

from typing import Annotated

import msgspec


class ConfigurationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[fleet.configuration]`: how a configuration that the fleet gives proves itself."""

    health_limit_s: Annotated[
        float,
        msgspec.Meta(
            description="Time within which the node has to be well with a new configuration; it is undone otherwise.",
            ge=1,
            le=3600,
        ),
    ] = 60.0
    health_hold_s: Annotated[
        float,
        msgspec.Meta(description="Time for which it has to stay well before the configuration counts.", ge=0, le=600),
    ] = 3.0
    max_starts: Annotated[
        int,
        msgspec.Meta(
            description="A new configuration is undone when the daemon had to be started more often than this.",
            ge=1,
            le=20,
        ),
    ] = 3
    drift_interval_s: Annotated[
        float,
        msgspec.Meta(
            description="Time between two looks at whether the settings are still those that were applied.",
            ge=0.1,
            le=3600,
        ),
    ] = 10.0
