"""Settings of the decode service."""

from __future__ import annotations

from typing import Annotated

import msgspec


class DecodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[decode]`: streams of syndromes that are decoded while they come."""

    max_streams: Annotated[
        int, msgspec.Meta(description="Open streams, all callers together; 0 offers none.", ge=0, le=256)
    ] = 8
    workers: Annotated[
        int,
        msgspec.Meta(
            description="Most worker processes; streams share them evenly. As many as streams: each has its own.",
            ge=1,
            le=64,
        ),
    ] = 1
    worker_idle_s: Annotated[
        float, msgspec.Meta(description="A worker that has no stream for this long is stopped.", ge=0.1, le=86_400)
    ] = 120.0
    stream_idle_s: Annotated[
        float, msgspec.Meta(description="A stream to which nothing was sent for this long is ended.", ge=0.1, le=86_400)
    ] = 60.0
    open_deadline_s: Annotated[
        float,
        msgspec.Meta(
            description="Time to start a worker and to compile an error model; its worker is then replaced.",
            ge=0.5,
            le=600,
        ),
    ] = 60.0
    max_rounds_in_flight: Annotated[
        int,
        msgspec.Meta(description="Most rounds of a stream that were sent and are not committed.", ge=8, le=1_000_000),
    ] = 4096
    max_model_bytes: Annotated[
        int,
        msgspec.Meta(
            description="Longest text of an error model; http.body_limit_bytes bounds the message around it.",
            ge=1024,
            le=64 * 2**20,
        ),
    ] = 2 * 2**20
    max_detectors: Annotated[
        int, msgspec.Meta(description="Most detectors of an error model.", ge=16, le=2_000_000)
    ] = 100_000
    max_mechanisms: Annotated[
        int, msgspec.Meta(description="Most errors of an error model, repetitions counted.", ge=16, le=20_000_000)
    ] = 1_000_000
    keep_models: Annotated[
        int, msgspec.Meta(description="Compiled models that a worker keeps, those used last.", ge=1, le=1000)
    ] = 16
