"""Settings of QKD links."""

from __future__ import annotations

from typing import Annotated

import msgspec


class LinkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[qkd.links.NAME]`: a link whose two ends are drivers of this box."""

    alice: Annotated[str, msgspec.Meta(description="Driver instance of the sending end.", min_length=1, max_length=36)]
    bob: Annotated[str, msgspec.Meta(description="Driver instance of the measuring end.", min_length=1, max_length=36)]
