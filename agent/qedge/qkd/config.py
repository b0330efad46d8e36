"""Settings of one QKD link."""

from __future__ import annotations

from typing import Annotated

import msgspec


class LinkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[qkd.links.NAME]`: two transceivers of this box that share a fibre."""

    alice: Annotated[
        str, msgspec.Meta(description="Driver instance of the end that sends.", min_length=1, max_length=36)
    ]
    bob: Annotated[
        str, msgspec.Meta(description="Driver instance of the end that detects.", min_length=1, max_length=36)
    ]
    max_qber: Annotated[
        float,
        msgspec.Meta(description="Raw error rate above which an eavesdropper is suspected.", ge=0.001, le=0.25),
    ] = 0.11
    block_timeout_s: Annotated[
        float, msgspec.Meta(description="Time that the detecting end waits for one block.", ge=0.1, le=60)
    ] = 2.0
    measure_deadline_s: Annotated[
        float, msgspec.Meta(description="Time after which a measurement ends with what it has.", ge=0.5, le=600)
    ] = 20.0
