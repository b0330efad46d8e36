"""What results of other nodes have been worth."""

from __future__ import annotations

from typing import Annotated

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Standing(msgspec.Struct, frozen=True, tag_field="type", tag="standing/1"):
    """Results of node `node`: second runs in all and in a row that confirmed them, and those that did not.

    `odd`: results that were merely alike though the same seed should have given the same; `wrong`: shown to be false;
    `barred_utc_ns`: since when the node gets no jobs (0: it gets them), `why` in words.
    """

    node: str
    checked: _Count = 0
    clean: _Count = 0
    odd: _Count = 0
    wrong: _Count = 0
    barred_utc_ns: _Count = 0
    why: str = ""


class StandingList(msgspec.Struct, frozen=True, tag_field="type", tag="standing-list/1"):
    """Every node whose results were checked here, by name."""

    standings: tuple[Standing, ...]
