"""Nouns of the decode service."""

from __future__ import annotations

import msgspec

TARGET = "qedge.engine.decoding.host:DecodeHost"
"""What decoding workers host."""


class Limits(msgspec.Struct, frozen=True):
    """What a worker allows: bounds of a model as in `[decode]`, and the most rounds that may be under way."""

    max_model_bytes: int
    max_detectors: int
    max_mechanisms: int
    max_rounds_in_flight: int
    keep_models: int
