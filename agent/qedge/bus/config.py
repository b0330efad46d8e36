"""Settings of connections to brokers and of the private broker."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

_URL: Final = msgspec.Meta(
    pattern=r"^(mqtts?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?)?\Z",
    max_length=300,
    title="mqtt://HOST:PORT, mqtts://HOST:PORT or empty",
)


class BrokerAccess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a broker is and how to be let in; whoever has a connection of its own adds what it needs beside that."""

    url: Annotated[
        str, _URL, msgspec.Meta(description="Broker as mqtt://host:port or mqtts://host:port; empty: none.")
    ] = ""
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

    def bus(self) -> BusConfig:
        """Return the same as settings of a connection."""
        return BusConfig(**{field: getattr(self, field) for field in BrokerAccess.__struct_fields__})


class BusConfig(BrokerAccess, frozen=True, forbid_unknown_fields=True):
    """`[broker]`: the MQTT broker of this node."""

    url: Annotated[
        str,
        _URL,
        msgspec.Meta(
            description="Broker as mqtt://host:port or mqtts://host:port; empty: a private one as a child process."
        ),
    ] = ""
    kind: Annotated[
        Literal["auto", "mosquitto", "iotcore"],
        msgspec.Meta(description="Program of the private broker; `auto`: mosquitto where installed, else iotcore."),
    ] = "auto"
    listen: Annotated[
        str,
        msgspec.Meta(
            description="Address of this box, as HOST:PORT, on which the private broker also serves other boxes; "
            "empty: this box alone.",
            pattern=r"^((\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5})?\Z",
            max_length=300,
            title="HOST:PORT or empty",
        ),
    ] = ""
    keepalive_s: Annotated[int, msgspec.Meta(description="Time after which silence is probed.", ge=2, le=3600)] = 15
    session_expiry_s: Annotated[
        int, msgspec.Meta(description="How long the broker keeps messages for an absent node.", ge=0, le=604_800)
    ] = 86_400
    connect_timeout_s: Annotated[float, msgspec.Meta(description="Time for one connection.", ge=0.5, le=120)] = 10.0
    reconnect_cap_s: Annotated[
        float, msgspec.Meta(description="Longest wait between two connections.", ge=0.1, le=600)
    ] = 30.0
    receive_maximum: Annotated[
        int, msgspec.Meta(description="QoS-1 messages under way to this node at once.", ge=1, le=65_535)
    ] = 64
    queue_limit: Annotated[
        int,
        msgspec.Meta(
            description="Messages that wait; more are dropped and counted at QoS 0, and left at the broker at QoS 1.",
            ge=1,
            le=10**6,
        ),
    ] = 1000
