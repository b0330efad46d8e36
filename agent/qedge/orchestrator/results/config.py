"""Settings of checks on results."""

from __future__ import annotations

from typing import Annotated

import msgspec


class ResultsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[results]`: how far results of other nodes are believed."""

    check_share: Annotated[
        float,
        msgspec.Meta(
            description="Share of a known node's results that are run a second time elsewhere; more for new nodes.",
            ge=0,
            le=1,
        ),
    ] = 0.1
    check_idle: Annotated[
        bool, msgspec.Meta(description="Whether the others are checked too while this node has nothing else to do.")
    ] = True
    check_longest_s: Annotated[
        float, msgspec.Meta(description="Jobs that are predicted to run longer are not run again.", ge=0, le=86_400)
    ] = 5.0
