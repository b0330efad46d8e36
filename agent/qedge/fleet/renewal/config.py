"""Settings of renewal without a person."""

from __future__ import annotations

from typing import Annotated

import msgspec


class RenewalConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[fleet.renewal]`: the node asks its fleet's authority for its next certificate when that is due."""

    enabled: Annotated[bool, msgspec.Meta(description="Ask.")] = True
    window_s: Annotated[
        float,
        msgspec.Meta(
            description="Longest random wait before the first request, so that boxes that were all switched on at once "
            "do not ask at once.",
            ge=0,
            le=86_400,
        ),
    ] = 600.0
    retry_s: Annotated[
        float, msgspec.Meta(description="Pause after the first request without an answer; it doubles.", ge=1, le=86_400)
    ] = 1800.0
    retry_cap_s: Annotated[float, msgspec.Meta(description="Longest pause between two requests.", ge=1, le=604_800)] = (
        21_600.0
    )
