"""Settings of the thin-edge.io adapter."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from qedge.fleet.tool_broker import ToolBrokerConfig

Segment = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z", title="letters, digits, - and _")]
Kind = Literal["restart", "config_snapshot", "config_update", "software_list", "software_update", "log_upload"]


class ThinEdgeConfig(ToolBrokerConfig, frozen=True, forbid_unknown_fields=True):
    """`[fleet.thin_edge]`: the node as a service of a thin-edge.io device, on that device's local broker."""

    root: Annotated[Segment, msgspec.Meta(description="First level of all topics.")] = "te"
    device: Annotated[Segment, msgspec.Meta(description="Device that the service belongs to.")] = "main"
    service: Annotated[Segment, msgspec.Meta(description="Name of the service.")] = "qedge"
    files: Annotated[
        str,
        msgspec.Meta(
            description="File transfer service of the device, as http://HOST:PORT; uploads go nowhere else.",
            pattern=r"^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?\Z",
            max_length=300,
            title="http://HOST:PORT or https://HOST:PORT",
        ),
    ] = "http://127.0.0.1:8000"
    commands: Annotated[
        tuple[Kind, ...],
        msgspec.Meta(
            description="Kinds of commands that are carried out. They are not signed: whoever may publish at that "
            "broker may give them.",
            max_length=16,
        ),
    ] = ()
