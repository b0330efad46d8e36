"""Settings of the Sparkplug edge node."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

ID_PATTERN: Final = r"^[^+/#\x00-\x1f\x7f]{1,64}\Z"
"""tck-id-topic-structure-namespace-valid-{group,edge-node,device}-id, tck-id-intro-{group,edge-node,device}-id-string,
tck-id-intro-{group,edge-node,device}-id-chars."""

_ID_WORDS = "at most 64 characters, none of + / #"
_ID_OR_NONE = rf"({ID_PATTERN})|^\Z"


class SparkplugConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[fleet.sparkplug]`: this node as a Sparkplug B 3.0 edge node, its drivers as devices."""

    enabled: Annotated[bool, msgspec.Meta(description="Be an edge node at all.")] = False
    servers: Annotated[
        tuple[
            Annotated[
                str,
                msgspec.Meta(
                    pattern=r"^mqtts?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?\Z",
                    max_length=300,
                    title="mqtt://HOST:PORT or mqtts://HOST:PORT",
                ),
            ],
            ...,
        ],
        msgspec.Meta(
            description="MQTT servers in the order in which they are tried, as mqtt://host:port or mqtts://host:port; "
            "the node is connected to one at a time.",
            max_length=16,
        ),
    ] = ("mqtt://localhost:1883",)
    group: Annotated[
        str,
        msgspec.Meta(description="Group of this node; empty: the fleet's name.", pattern=_ID_OR_NONE, title=_ID_WORDS),
    ] = ""
    node: Annotated[
        str,
        msgspec.Meta(
            description="Name of this node in its group; empty: the node's name.", pattern=_ID_OR_NONE, title=_ID_WORDS
        ),
    ] = ""
    primary_host: Annotated[
        str,
        msgspec.Meta(
            description="Host application that must be online before anything is published; empty: none.",
            pattern=_ID_OR_NONE,
            title=_ID_WORDS,
        ),
    ] = ""
    writable: Annotated[
        tuple[
            Literal[
                "Node Control/Next Server",
                "Node Control/Scan Rate",
                "Node Control/Drain",
                "Device Control/Rebirth",
                "Device Control/Locked",
            ],
            ...,
        ],
        msgspec.Meta(
            description="Metrics that hosts may write by NCMD and DCMD, beside `Node Control/Rebirth`; "
            "who may send commands is up to the server's access rules.",
            max_length=16,
        ),
    ] = ()
    client_id: Annotated[
        str, msgspec.Meta(description="MQTT client id; empty: made of group and node.", max_length=128)
    ] = ""
    username: Annotated[str, msgspec.Meta(description="User name at the servers; empty: none.", max_length=200)] = ""
    password_file: Annotated[
        str, msgspec.Meta(description="File with the password on its first line; empty: none.", max_length=1024)
    ] = ""
    ca_file: Annotated[
        str, msgspec.Meta(description="Certificates that may sign the servers'; empty: the system's.", max_length=1024)
    ] = ""
    cert_file: Annotated[
        str, msgspec.Meta(description="Certificate of this node for mqtts; empty: none.", max_length=1024)
    ] = ""
    key_file: Annotated[str, msgspec.Meta(description="Key of that certificate.", max_length=1024)] = ""
    sample_s: Annotated[
        float, msgspec.Meta(description="How often readings are looked at for changes.", ge=0.1, le=3600)
    ] = 1.0
    deadband_ratio: Annotated[
        float,
        msgspec.Meta(
            description="A real number that differs by less than this share from what was said last has not changed.",
            ge=0,
            le=1,
        ),
    ] = 0.01
    keepalive_s: Annotated[int, msgspec.Meta(description="Time after which silence is probed.", ge=2, le=3600)] = 30
    connect_timeout_s: Annotated[float, msgspec.Meta(description="Time for one connection.", ge=0.5, le=120)] = 10.0
    reconnect_cap_s: Annotated[
        float, msgspec.Meta(description="Longest wait between two connections.", ge=0.1, le=600)
    ] = 60.0
    state_timeout_s: Annotated[
        float,
        msgspec.Meta(
            description="Where there are several servers: time for the primary host to show before the next is tried.",
            ge=1,
            le=3600,
        ),
    ] = 30.0
    births_per_s: Annotated[
        float, msgspec.Meta(description="Births a second, after a first burst of 50.", ge=1, le=100_000)
    ] = 200.0
    rebirth_gap_s: Annotated[
        float, msgspec.Meta(description="Least time from one NBIRTH to the next in a session.", ge=0, le=600)
    ] = 1.0
    replay_per_s: Annotated[
        float,
        msgspec.Meta(
            description="Readings a second at which those that waited are sent; new ones are not held up.",
            ge=1,
            le=1_000_000,
        ),
    ] = 1000.0
    history_rows: Annotated[
        int,
        msgspec.Meta(
            description="Readings of an outage that are kept on the disk for hosts, the newest; 0: none are.",
            ge=0,
            le=10_000_000,
        ),
    ] = 100_000
    history_s: Annotated[
        float, msgspec.Meta(description="Older readings of an outage are dropped.", ge=60, le=31_536_000)
    ] = 604_800.0
