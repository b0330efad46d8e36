"""Settings of placement."""

from __future__ import annotations

from typing import Annotated

import msgspec

from qedge.wire.jobs import PlacementPolicy


class PlacementConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[placement]`: how a node is chosen for jobs that any node may run."""

    policy: Annotated[
        PlacementPolicy,
        msgspec.Meta(
            description="Where jobs run that do not say it themselves: where they end first (`fastest`), the same but "
            "rather where less is going on (`balanced`), here unless they would wait (`local-first`), where most is "
            "going on (`pack`), or always here (`pinned`)."
        ),
    ] = PlacementPolicy.BALANCED
    partners: Annotated[
        int,
        msgspec.Meta(description="Nodes whose loads this one keeps up with, and gives jobs to, at most.", ge=1, le=64),
    ] = 32
