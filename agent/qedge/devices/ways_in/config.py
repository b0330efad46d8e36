"""Settings of the ways in: the listener, and what comes through the broker."""

from __future__ import annotations

from typing import Annotated

import msgspec

_Address = Annotated[str, msgspec.Meta(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[0-9.]+):[0-9]{1,5}\Z", max_length=60)]


class ListenerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[devices.listener]`: where devices connect to this node by MQTT 3.1.1 or 5."""

    listen: Annotated[
        tuple[_Address, ...],
        msgspec.Meta(
            description="Addresses, as IP:PORT, without TLS; frames are sealed in any case. Empty: none.",
            max_length=16,
            title="list of IP:PORT",
        ),
    ] = ()
    listen_tls: Annotated[
        tuple[_Address, ...],
        msgspec.Meta(
            description="Addresses, as IP:PORT, with TLS. Empty: none.", max_length=16, title="list of IP:PORT"
        ),
    ] = ()
    cert_file: Annotated[
        str, msgspec.Meta(description="Certificate chain (PEM) shown to devices over TLS.", max_length=1024)
    ] = ""
    key_file: Annotated[str, msgspec.Meta(description="Key of that certificate (PEM).", max_length=1024)] = ""
    require_hybrid: Annotated[
        bool, msgspec.Meta(description="Take TLS only with the post-quantum group X25519MLKEM768.")
    ] = False
    max_connections: Annotated[int, msgspec.Meta(description="Connections at once.", ge=1, le=200_000)] = 20_480
    max_unauthenticated: Annotated[
        int, msgspec.Meta(description="Connections that have not proved who they are; the oldest gives way.", ge=1)
    ] = 1024
    max_connections_per_address: Annotated[
        int, msgspec.Meta(description="Connections at once from one address (IPv6: from one /64).", ge=1)
    ] = 1024
    connects_per_s: Annotated[
        float, msgspec.Meta(description="New connections taken in a second from all; the others wait.", gt=0, le=1e5)
    ] = 400.0
    address_connects_per_s: Annotated[
        float, msgspec.Meta(description="New connections in a second from one address.", gt=0, le=1e5)
    ] = 50.0
    address_connects_burst: Annotated[
        int, msgspec.Meta(description="New connections that may come at once from one address.", ge=1)
    ] = 1024
    connect_timeout_s: Annotated[
        float, msgspec.Meta(description="Time for CONNECT, and as much again for TLS.", ge=0.2, le=60)
    ] = 5.0
    max_keepalive_s: Annotated[
        int, msgspec.Meta(description="Longest silence; a device may promise a shorter one.", ge=5, le=43_690)
    ] = 1200
    max_message_bytes: Annotated[int, msgspec.Meta(description="Largest packet of a device.", ge=256, le=1_048_576)] = (
        65_536
    )
    messages_per_s: Annotated[
        float, msgspec.Meta(description="Packets taken in a second from one device; the others wait.", gt=0, le=1e6)
    ] = 1000.0
    queue_messages: Annotated[
        int, msgspec.Meta(description="QoS-1 messages that wait for one device; more are refused.", ge=1, le=10_000)
    ] = 64
    queue_bytes: Annotated[
        int, msgspec.Meta(description="Data that waits for one slow device; more are refused.", ge=4096)
    ] = 131_072
    stall_timeout_s: Annotated[
        float, msgspec.Meta(description="Time after which a device that reads nothing is closed.", ge=0.5, le=600)
    ] = 10.0


class IntakeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[devices.broker]`: devices that speak to the broker."""

    enabled: Annotated[bool, msgspec.Meta(description="Listen to devices at the broker of this node.")] = True
    receive_maximum: Annotated[
        int, msgspec.Meta(description="QoS-1 messages under way to this node at once.", ge=1, le=65_535)
    ] = 1000
    keepalive_s: Annotated[int, msgspec.Meta(description="Time after which silence is probed.", ge=2, le=3600)] = 15
    session_expiry_s: Annotated[
        int, msgspec.Meta(description="How long the broker keeps QoS-1 messages for this node.", ge=0, le=604_800)
    ] = 86_400
    reconnect_cap_s: Annotated[
        float, msgspec.Meta(description="Longest wait between two connections.", ge=0.1, le=600)
    ] = 30.0
    max_message_bytes: Annotated[
        int, msgspec.Meta(description="Largest packet from the broker.", ge=256, le=1_048_576)
    ] = 65_536
