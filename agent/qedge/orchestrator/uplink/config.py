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
    url: Annotated[
        str,
        msgspec.Meta(
            description="Broker of the cloud as mqtt://host:port or mqtts://host:port; empty: no uplink.",
            pattern=r"^(mqtts?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?)?\Z",
            max_length=300,
            title="mqtt://HOST:PORT, mqtts://HOST:PORT or empty",
        ),
    ] = ""
    username: Annotated[str, msgspec.Meta(description="User name at that broker; empty: none.", max_length=200)] = ""
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
    keep_of_one: Annotated[
        int, msgspec.Meta(description="Results of one node that the cloud keeps at most.", ge=1, le=10**7)
    ] = 100_000

    def bus(self) -> BusConfig:
        """Return the settings of the second connection."""
        access = BrokerAccess.bus(self)
        return structs.replace(access, session_expiry_s=self.session_expiry_s, reconnect_cap_s=self.reconnect_cap_s)
