"""Settings of host health and of the membership in the fleet."""

from __future__ import annotations

from typing import Annotated

import msgspec


class HostConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[host]`: when the box itself counts as unwell."""

    sample_interval_s: Annotated[
        float, msgspec.Meta(description="Time between two looks at the host.", ge=0.2, le=10)
    ] = 2.0
    min_memory_mib: Annotated[
        int,
        msgspec.Meta(description="Below this much free memory the host is degraded; critical at half.", ge=0, le=2**22),
    ] = 128
    min_disk_mib: Annotated[
        int,
        msgspec.Meta(
            description="Below this much free disk the host is degraded; critical at a quarter.", ge=0, le=2**30
        ),
    ] = 64
    max_cpu_ratio: Annotated[
        float,
        msgspec.Meta(
            description="Above this busy share of all cores over half a minute the host is degraded.",
            gt=0,
            le=1,
        ),
    ] = 0.98
    max_temperature_celsius: Annotated[
        float, msgspec.Meta(description="Above this the host is degraded; critical 10 degrees on.", ge=20, le=200)
    ] = 90.0
    clock_step_s: Annotated[
        float, msgspec.Meta(description="A jump of the wall clock by more than this is reported.", ge=0.05, le=3600)
    ] = 0.5


class MeshConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[mesh]`: how the nodes of a fleet watch and reach each other."""

    pulse_s: Annotated[
        float,
        msgspec.Meta(
            description="Time between two heartbeats in a small fleet; it doubles as the fleet grows, up to 64 times.",
            ge=0.1,
            le=25.6,
        ),
    ] = 0.4
    suspect_periods: Annotated[
        float,
        msgspec.Meta(
            description="Silence of a peer, in its heartbeat periods, after which it is asked.", ge=1.1, le=20
        ),
    ] = 2.2
    dead_periods: Annotated[
        float,
        msgspec.Meta(description="Silence of a peer, in its heartbeat periods, after which it is dead.", ge=1.5, le=60),
    ] = 3.2
    margin_s: Annotated[
        float,
        msgspec.Meta(description="Delay of the network that is added to both kinds of silence.", ge=0, le=60),
    ] = 0.2
    forget_s: Annotated[
        float, msgspec.Meta(description="A peer that is dead or has left is forgotten after this time.", ge=60, le=1e7)
    ] = 86400.0
    max_peers: Annotated[
        int, msgspec.Meta(description="Nodes of the fleet that are remembered at most.", ge=1, le=65536)
    ] = 4096
    join_file: Annotated[
        str,
        msgspec.Meta(
            description="File with an invitation by which a box without a fleet joins by itself when it starts; empty: "
            "the credential `join.token` of systemd, or /etc/qedge/join.token.",
            pattern=r"^(/|\Z)",
            max_length=1024,
            title="an absolute path or empty",
        ),
    ] = ""
    listen: Annotated[
        str,
        msgspec.Meta(
            description="Address of the direct channel between nodes: auto, off, or HOST:PORT.",
            pattern=r"^(auto|off|\S{1,255}:[0-9]{1,5})\Z",
            title="auto, off, or HOST:PORT",
        ),
    ] = "auto"
