"""Settings of the uplink."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import structs

from qedge.bus.config import BrokerAccess, BusConfig


class UplinkConfig(BrokerAccess, frozen=True, forbid_unknown_fields=True):
    """`[uplink]`: the broker of the cloud, beside the one of the site. Without `url` there is no uplink."""

    node_class: Annotated[
        Literal["edge", "cloud"],
        msgspec.Meta(
            description="`cloud`: this node takes the results that others send up. Its `broker.url` is the broker that "
            "is the uplink of those, and its birth has the label `class:cloud`."
        ),
    ] = "edge"
    session_expiry_s: Annotated[
        int, msgspec.Meta(description="How long that broker keeps messages for this node.", ge=0, le=604_800)
    ] = 604_800
    reconnect_cap_s: Annotated[
        float, msgspec.Meta(description="Longest wait between two connections.", ge=0.1, le=600)
    ] = 60.0
    results: Annotated[bool, msgspec.Meta(description="Whether results of jobs go to the cloud.")] = True
    spool_entries: Annotated[
        int,
        msgspec.Meta(
            description="Results and entries of the shared state that wait for the uplink; beyond that the oldest "
            "results are given up.",
            ge=10,
            le=10**7,
        ),
    ] = 100_000
    compare_s: Annotated[
        float,
        msgspec.Meta(
            description="About how often what the fleet shares is compared with a node of the cloud; and soon after a "
            "connection.",
            ge=1,
            le=86_400,
        ),
    ] = 900.0
    keep_of_one: Annotated[
        int, msgspec.Meta(description="Results of one node that the cloud keeps at most.", ge=1, le=10**7)
    ] = 100_000

    def bus(self) -> BusConfig:
        """Return the settings of the second connection."""
        access = BrokerAccess.bus(self)
        return structs.replace(access, session_expiry_s=self.session_expiry_s, reconnect_cap_s=self.reconnect_cap_s)
