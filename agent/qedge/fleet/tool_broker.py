"""Settings of the connection of an adapter to the broker of its tool."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from qedge.bus.config import BusConfig


class ToolBrokerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
    username: Annotated[str, msgspec.Meta(description="User name at the broker; empty: none.", max_length=200)] = ""
    password_file: Annotated[
        str, msgspec.Meta(description="File with the password on its first line; empty: none.", max_length=1024)
    ] = ""
    ca_file: Annotated[
        str, msgspec.Meta(description="Certificates that may sign the broker's; empty: the system's.", max_length=1024)
    ] = ""
    cert_file: Annotated[
        str, msgspec.Meta(description="Certificate of this node for mqtts; empty: none.", max_length=1024)
    ] = ""
    key_file: Annotated[str, msgspec.Meta(description="Key of that certificate.", max_length=1024)] = ""
    keepalive_s: Annotated[int, msgspec.Meta(description="Time after which silence is probed.", ge=2, le=3600)] = 30

    def as_bus(self) -> BusConfig:
        """Return the same as settings of a broker."""
        return BusConfig(
            url=self.url,
            username=self.username,
            password_file=self.password_file,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
        )
