"""Settings of the random pool."""

from __future__ import annotations

from typing import Annotated

import msgspec


class EntropyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[entropy]`: where quantum randomness comes from and how it is tested."""

    source: Annotated[
        str, msgspec.Meta(description="Driver instance of the quantum source; empty: none.", max_length=36)
    ] = "qrng"
    alpha_exponent: Annotated[
        int,
        msgspec.Meta(description="False-alarm probability of the health tests is 2 to the minus this.", ge=20, le=40),
    ] = 30
    pool_bytes: Annotated[int, msgspec.Meta(description="Conditioned quantum bytes kept ready.", ge=1024, le=2**24)] = (
        131_072
    )
    refill_bytes: Annotated[int, msgspec.Meta(description="Raw bytes read at once.", ge=1024, le=2**18)] = 16_384
    check_interval_s: Annotated[
        float, msgspec.Meta(description="Time between two tests of a source that nobody draws from.", ge=0.05, le=60)
    ] = 0.5
    read_deadline_s: Annotated[
        float, msgspec.Meta(description="A read that takes longer counts as total failure.", ge=0.1, le=60)
    ] = 3.0
