"""Quantum random number generators: raw samples, never conditioned by the driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from qedge_driver_api.driver import Driver


@dataclass(frozen=True, slots=True)
class RawSamples:
    """`data` holds samples in the order they were measured, `bits_per_sample` bits each.

    1 bit per sample: packed eight to a byte, first sample in the most significant bit. 8 bits: one byte a sample.
    `min_entropy_per_sample` is what the maker assessed, in bits, and never more than `bits_per_sample`.
    """

    data: bytes
    bits_per_sample: int
    min_entropy_per_sample: float


@runtime_checkable
class QrngDriver(Driver, Protocol):
    """A source of raw random samples; the node tests and conditions them."""

    def read(self, num_bytes: int) -> RawSamples:
        """Return exactly `num_bytes` fresh bytes of samples (1 … 1 MiB); raises `RetriableError` when dry."""
        ...
