"""Nothing that a driver returns is believed: counts and metadata are checked in the worker before they are packed."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Final

from qedge.workers.driver_host import lied
from qedge.workers.model import Msg
from qedge_driver_api import PropertyValue, QpuEstimate, QpuResult

_MAX_METADATA: Final = 64
_WIDTHS: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}


def check_result(result: QpuResult, num_clbits: int, shots: int) -> QpuResult:
    """Return a result whose counts can be true; raises `driver.lied`."""
    if not isinstance(result, QpuResult):
        raise lied("a result is no QpuResult")
    counts = result.counts
    if not isinstance(counts, Mapping):
        raise lied("counts are no mapping")
    if not isinstance(result.metadata, Mapping):
        raise lied("result metadata are no mapping")
    if (set(map(type, counts)) | set(map(type, counts.values()))) - {int}:
        raise lied("counts map whole numbers to whole numbers")
    if counts and not 0 <= min(counts) <= max(counts) < 1 << num_clbits:
        raise lied(f"a count for a value of more than {num_clbits} bits")
    if min(counts.values(), default=1) < 1:
        raise lied(f"a count of {min(counts.values())}")
    total = sum(counts.values())
    if total != shots:
        raise lied(f"counts sum to {total} instead of {shots} shots")
    return result


def check_estimate(estimate: QpuEstimate) -> QpuEstimate:
    """Return an estimate of finite numbers; raises `driver.lied`."""
    if not isinstance(estimate, QpuEstimate):
        raise lied("an estimate is no QpuEstimate")
    for value in (estimate.memory_bytes, estimate.time_s):
        if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise lied(f"an estimate of {value!r}"[:100])
    return estimate


def pack_counts(counts: Mapping[int, int], num_clbits: int) -> Msg:
    """Pack checked counts for the way to the daemon."""
    width = key_bytes(num_clbits)
    letter = _WIDTHS.get(width)
    if letter is None:
        keys = b"".join([key.to_bytes(width, "little") for key in counts])
    else:
        keys = struct.pack(f"<{len(counts)}{letter}", *counts)
    return {
        "keys": keys,
        "values": list(counts.values()),
    }


def sort_metadata(metadata: Mapping[str, PropertyValue]) -> tuple[dict[str, Msg], dict[str, Msg]]:
    """Return `(metadata, timings)` of a result; what ends in `_s` is a timing in seconds. Raises `driver.lied`."""
    facts: dict[str, Msg] = {}
    timings: dict[str, Msg] = {}
    for name, value in list(metadata.items())[:_MAX_METADATA]:
        if not isinstance(value, (str, int, float, bool)) or (isinstance(value, float) and not math.isfinite(value)):
            raise lied(f"result metadata {name} is {value!r}"[:200])
        if isinstance(value, float) and name.endswith("_s"):
            timings[str(name).removesuffix("_s")] = value
        else:
            facts[str(name)] = value
    return facts, timings


def key_bytes(num_clbits: int) -> int:
    """Return how many bytes a packed value takes."""
    return max(1, -(-num_clbits // 8))
