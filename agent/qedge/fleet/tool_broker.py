"""Settings of the connection of an adapter to the broker of its tool."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from qedge.bus.config import BrokerAccess


class ToolBrokerConfig(BrokerAccess, frozen=True, forbid_unknown_fields=True):
    """Where the broker of a tool is and how to be let in; every adapter has a connection of its own."""

    enabled: Annotated[bool, msgspec.Meta(description="Connect.")] = False
    url: Annotated[
        str,
        msgspec.Meta(
            description="Broker of the tool as mqtt://host:port or mqtts://host:port.",
            pattern=r"^mqtts?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?\Z",
            max_length=300,
            title="mqtt://HOST:PORT or mqtts://HOST:PORT",
        ),
    ] = "mqtt://127.0.0.1:1883"
    version: Annotated[
        Literal["3.1.1", "5"], msgspec.Meta(description="Version of MQTT; 3.1.1 is what every broker speaks.")
    ] = "3.1.1"
    keepalive_s: Annotated[int, msgspec.Meta(description="Time after which silence is probed.", ge=2, le=3600)] = 30
