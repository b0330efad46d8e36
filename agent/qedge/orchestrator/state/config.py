"""Settings of the shared state."""

from __future__ import annotations

from typing import Annotated

import msgspec


class StateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[state]`: the small map that all nodes of a site, or of the fleet, hold."""

    site: Annotated[
        str,
        msgspec.Meta(
            description="Name of the site: the nodes around one broker, or around brokers that pass on everything.",
            pattern=r"^[A-Za-z0-9_-]{1,36}\Z",
            title="at most 36 letters, digits, - and _",
        ),
    ] = "main"
    compare_s: Annotated[
        float,
        msgspec.Meta(
            description="About how often a node compares its map with another's; at once after a reconnect.",
            ge=0.5,
            le=3600,
        ),
    ] = 30.0
    max_ahead_s: Annotated[
        float,
        msgspec.Meta(
            description="An entry whose time is further ahead than this is refused: clocks may differ that much.",
            ge=0.1,
            le=3600,
        ),
    ] = 5.0
    entries_per_s: Annotated[
        float,
        msgspec.Meta(
            description="New entries of one writer that are looked at in a second; what is over comes by comparing.",
            ge=1,
            le=10000,
        ),
    ] = 100.0
    summary_s: Annotated[
        float,
        msgspec.Meta(description="Least time between two summaries that a site gives to the others.", ge=1, le=600),
    ] = 30.0
