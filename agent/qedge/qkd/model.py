"""Blocks of raw detections and preparations as they come out of the drivers, checked; and counts made of them."""

from __future__ import annotations

import operator
import sys
from array import array
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

from qedge.base.errors import QedgeError
from qedge.workers.model import Msg

MAX_DETECTIONS: Final = 1 << 16
"""Detections of one block; what keeps a step on the event loop below its 5 ms."""
_MAX_SLOT: Final = 2**63


class Verdict(StrEnum):
    """What a window of raw detections says about a link."""

    CLEAR = "clear"
    SUSPECTED = "eavesdropper suspected"
    NO_LIGHT = "no light"


@dataclass(frozen=True, slots=True)
class Detections:
    """One block of Bob: `num_slots` clock slots from `first_slot`, and basis (0 Z, 1 X) and bit of each detection.

    `slots` holds one little-endian u64 per detection, strictly increasing within the block.
    """

    first_slot: int
    num_slots: int
    slots: bytes
    bases: bytes
    bits: bytes
    double_clicks: int

    @property
    def number(self) -> int:
        """How many detections the block holds."""
        return len(self.bits)

    @property
    def end_slot(self) -> int:
        """First slot after the block."""
        return self.first_slot + self.num_slots


@dataclass(frozen=True, slots=True)
class Prepared:
    """What Alice sent in the slots asked for: basis, bit and index of the intensity, one byte each."""

    bases: bytes
    bits: bytes
    intensities: bytes


@dataclass(frozen=True, slots=True)
class BasisCounts:
    """Sifted bits of one basis and how many of them differ between the ends."""

    sifted: int = 0
    errors: int = 0

    def __add__(self, other: BasisCounts) -> BasisCounts:
        return BasisCounts(self.sifted + other.sifted, self.errors + other.errors)


@dataclass(frozen=True, slots=True)
class RawWindow:
    """Counts over one or more blocks; `slots` are clock slots, each a pulse that Alice sent."""

    slots: int = 0
    detections: int = 0
    double_clicks: int = 0
    z: BasisCounts = BasisCounts()
    x: BasisCounts = BasisCounts()

    def __add__(self, other: RawWindow) -> RawWindow:
        return RawWindow(
            self.slots + other.slots,
            self.detections + other.detections,
            self.double_clicks + other.double_clicks,
            self.z + other.z,
            self.x + other.x,
        )

    @property
    def both(self) -> BasisCounts:
        """Both bases together."""
        return self.z + self.x

    @property
    def gain(self) -> float:
        """Detections per slot; 0 where there was no slot."""
        return self.detections / self.slots if self.slots else 0.0

    @property
    def qber(self) -> float:
        """Raw error rate, 0 to 1; −1 without a sifted bit."""
        return self.both.errors / self.both.sifted if self.both.sifted else -1.0


def lied(what: str) -> QedgeError:
    """Make the error for a transceiver's answer that cannot be true."""
    return QedgeError(
        "driver.lied", f"The transceiver's answer cannot be true: {what}.", fix="Report it to the driver's maker."
    )


def detections_from(answer: Msg) -> Detections | None:
    """Check an answer of `read_block`; None where no block came in time; raises `driver.lied`."""
    if answer is None:
        return None
    if not isinstance(answer, dict):
        raise lied("a block is no mapping")
    first, slots = _number(answer, "first_slot"), _number(answer, "num_slots")
    raw_slots, bases, bits = (_array(answer, key) for key in ("slots", "bases", "bits"))
    block = Detections(first, slots, raw_slots, bases, bits, _number(answer, "double_clicks"))
    if block.number > MAX_DETECTIONS:
        raise lied(f"a block of {block.number} detections; at most {MAX_DETECTIONS} are taken")
    if len(raw_slots) != 8 * block.number or len(bases) != block.number or block.double_clicks > block.number:
        raise lied("the arrays of a block do not fit together")
    if _not_binary(bases) or _not_binary(bits):
        raise lied("bases and bits are 0 or 1")
    values = array("Q", raw_slots)
    if sys.byteorder == "big":
        values.byteswap()
    if block.number and not (block.first_slot <= values[0] and values[-1] < block.end_slot):
        raise lied("a detection outside its block")
    if not all(map(operator.lt, values, islice(values, 1, None))):
        raise lied("slots do not increase")
    return block


def prepared_from(answer: Msg, number: int) -> Prepared:
    """Check an answer of `preparations` for `number` slots; raises `driver.lied`."""
    if not isinstance(answer, dict):
        raise lied("preparations are no mapping")
    made = Prepared(*(_array(answer, key) for key in ("bases", "bits", "intensities")))
    if not len(made.bases) == len(made.bits) == len(made.intensities) == number:
        raise lied("the preparations do not fit the slots asked for")
    if _not_binary(made.bases) or _not_binary(made.bits):
        raise lied("bases and bits are 0 or 1")
    return made


def _not_binary(values: bytes) -> bool:
    return bool(values.translate(None, b"\0\1"))


def _number(answer: dict[str, Msg], key: str) -> int:
    value = answer.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MAX_SLOT:
        raise lied(f"{key} is no slot number")
    return value


def _array(answer: dict[str, Msg], key: str) -> bytes:
    value = answer.get(key)
    if not isinstance(value, bytes):
        raise lied(f"{key} are no bytes")
    return value
