"""QKD hardware: transceivers that report raw detections, and vendors' key managers that hand over finished keys.

Arrays cross as `bytes` in little-endian order with one entry per detection, so that the contract needs no numpy:
`np.frombuffer(block.slots, "<u8")`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from qedge_driver_api.driver import Driver


class QkdRole(StrEnum):
    """The end of the link: `ALICE` prepares and sends, `BOB` measures."""

    ALICE = "alice"
    BOB = "bob"


@dataclass(frozen=True, slots=True)
class DetectionBlock:
    """What Bob's detectors saw in `num_slots` clock slots starting at `first_slot`.

    `slots`: u64 slot numbers, strictly increasing; `bases`: u8, 0 = Z, 1 = X; `bits`: u8, 0 or 1. Double clicks already
    carry a random bit and are counted in `double_clicks`. `live_slots`: in how many of the slots the receiver could
    have detected something, where it knows of dead time or of a limit of its counter; −1: in all of them.
    """

    first_slot: int
    num_slots: int
    slots: bytes
    bases: bytes
    bits: bytes
    double_clicks: int = 0
    live_slots: int = -1


@dataclass(frozen=True, slots=True)
class Preparations:
    """What Alice prepared in the slots asked for, in that order: `bases` and `bits` as u8, `intensities` as u8 index
    into the driver property `mean_photon_numbers` (largest first)."""

    bases: bytes
    bits: bytes
    intensities: bytes


@dataclass(frozen=True, slots=True)
class FinishedKey:
    """A key from a vendor's key manager: `key_id` is a UUID in text, `key` the secret bytes."""

    key_id: str
    key: bytes


@runtime_checkable
class QkdTransceiver(Driver, Protocol):
    """One end of a fibre. The setting `role` says which; the methods of the other role raise `FatalError`.

    A driver that can gather detections into larger blocks has the setting `block_detections` (int): hosts that distil
    set it where the operator has not.
    """

    def read_block(self, timeout_s: float) -> DetectionBlock | None:
        """Bob: return the next block of detections, oldest first, or None after `timeout_s` seconds without one."""
        ...

    def preparations(self, slots: bytes) -> Preparations:
        """Alice: say what was prepared in these slots (u64, increasing, from blocks not yet released)."""
        ...

    def release(self, before_slot: int) -> None:
        """Alice: forget all preparations in slots smaller than `before_slot`; they will not be asked for again."""
        ...


@runtime_checkable
class QkdKeySource(Driver, Protocol):
    """A vendor's key manager that gives the same finished keys to both ends."""

    def take(self, number: int, size_bits: int) -> tuple[FinishedKey, ...]:
        """Take `number` new keys of `size_bits` bits; raises `RetriableError` where too few are there."""
        ...

    def take_by_id(self, key_ids: tuple[str, ...]) -> tuple[FinishedKey, ...]:
        """Take the keys that the other end took, in this order; raises `RetriableError` where one is not there yet."""
        ...
