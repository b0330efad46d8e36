"""Settings of the Home Assistant adapter."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qedge.fleet.tool_broker import ToolBrokerConfig

Prefix = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+){0,3}\Z", max_length=100, title="levels of a topic")
]


class HomeAssistantConfig(ToolBrokerConfig, frozen=True, forbid_unknown_fields=True):
    """`[fleet.home_assistant]`: the node as a device of Home Assistant."""

    discovery_prefix: Annotated[Prefix, msgspec.Meta(description="Where Home Assistant looks for devices.")] = (
        "homeassistant"
    )
    state_prefix: Annotated[Prefix, msgspec.Meta(description="Where states and availability of nodes stand.")] = "qedge"
    period_s: Annotated[float, msgspec.Meta(description="Time between two states.", ge=1, le=86_400)] = 30.0
    announce_delay_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest random wait before the device is announced again to a Home Assistant that has just "
            "started.",
            ge=0,
            le=300,
        ),
    ] = 10.0
    install: Annotated[
        bool,
        msgspec.Meta(
            description="Let Home Assistant start the update that is offered on the box. What it installs is signed, "
            "what it says is not: whoever may publish at that broker may start it."
        ),
    ] = False
    release_url: Annotated[
        str,
        msgspec.Meta(
            description="Address of what is new, for people; {version} stands for the version. Empty: none.",
            pattern=r"^(https?://[^\s]+)?\Z",
            max_length=500,
            title="https://… or empty",
        ),
    ] = ""
    remove: Annotated[
        bool, msgspec.Meta(description="Take the device out of Home Assistant and publish nothing more.")
    ] = False
