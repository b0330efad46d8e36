"""Nothing that a driver returns is believed: counts and metadata are checked in the worker before they are packed."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Mapping
from typing import Final

from qedge.workers.driver_host import lied
from qedge.workers.model import Msg
from qedge_driver_api import OperationProperties, PackedCounts, PropertyValue, QpuEstimate, QpuProperties, QpuResult
from qedge_driver_api.counts import key_bytes

_MAX_METADATA: Final = 64
_MAX_LISTED: Final = 4096
_BYTES: Final = bytes(range(256))
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
    if type(counts) is PackedCounts:
        _check_packed(counts, num_clbits, shots)
        return result
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


def _check_packed(counts: PackedCounts, num_clbits: int, shots: int) -> None:
    packed, times, width = counts.packed, counts.times, key_bytes(num_clbits)
    if type(packed) is not bytes or not _are_whole(times):
        raise lied("packed counts are no bytes with whole numbers")
    if counts.width != width or len(packed) != width * len(times):
        raise lied("packed counts do not fit together")
    # the last byte of each value, without those that the bits of the circuit can make
    if packed[width - 1 :: width].translate(None, _BYTES[: 1 << num_clbits - 8 * (width - 1)]):
        raise lied(f"a count for a value of more than {num_clbits} bits")
    least, total = _least_and_total(times)
    if least < 1:
        raise lied(f"a count of {least}")
    if total != shots:
        raise lied(f"counts sum to {total} instead of {shots} shots")


def _are_whole(times: object) -> bool:
    if type(times) is array:
        return times.typecode == "Q"
    return type(times) is list and not set(map(type, times)) - {int}


def _least_and_total(times: list[int] | array[int]) -> tuple[int, int]:
    if not times:
        return 1, 0
    if isinstance(times, list):
        return min(times), sum(times)
    import numpy as np

    numbers = np.frombuffer(times, np.uint64)
    # exact up to 2^53, and no sum of numbers beyond that comes out below
    return int(np.minimum.reduce(numbers)), int(np.add.reduce(numbers, dtype=np.float64))


def check_estimate(estimate: QpuEstimate) -> QpuEstimate:
    """Return an estimate of finite numbers; raises `driver.lied`."""
    if not isinstance(estimate, QpuEstimate):
        raise lied("an estimate is no QpuEstimate")
    for value in (estimate.memory_bytes, estimate.time_s):
        if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise lied(f"an estimate of {value!r}"[:100])
    return estimate


def pack_device(found: object) -> Msg:
    """Pack what a driver tells of its device for the way to the daemon; raises `driver.lied`. Long lists are cut."""
    if not isinstance(found, QpuProperties) or not isinstance(found.num_qubits, int) or found.num_qubits < 1:
        raise lied("qpu_properties gave no QpuProperties")
    numbers = [value for site in found.sites for value in (site.t1_us, site.t2_us, site.readout_error)]
    numbers += [value for each in found.operations for value in (each.duration_us, each.fidelity)]
    numbers += [value for each in found.operations for row in each.at for value in (row.duration_us, row.fidelity)]
    numbers.append(found.calibrated_at_s)
    if not all(isinstance(value, (int, float)) and math.isfinite(value) and value >= 0 for value in numbers):
        raise lied("a property of a site or operation is not a finite number from 0 on")
    places = [*found.coupling, *(row.qubits for each in found.operations for row in each.at)]
    if not all(0 <= qubit < found.num_qubits for place in places for qubit in place):
        raise lied("the coupling or an operation names a qubit that is not there")
    return {
        "name": str(found.name),
        "num_qubits": found.num_qubits,
        "status": str(found.status),
        "formats": [str(each) for each in found.formats[:_MAX_LISTED]],
        "queue_length": int(found.queue_length),
        "max_shots": int(found.max_shots),
        "calibrated_at_s": float(found.calibrated_at_s),
        "coupling": [list(pair) for pair in found.coupling[:_MAX_LISTED]],
        "operations": [_packed_operation(each) for each in found.operations[:_MAX_LISTED]],
        "sites": [
            {
                "index": site.index,
                "name": str(site.name)[:100],
                "t1_us": float(site.t1_us),
                "t2_us": float(site.t2_us),
                "readout_error": float(site.readout_error),
            }
            for site in found.sites[:_MAX_LISTED]
        ],
    }


def _packed_operation(operation: OperationProperties) -> dict[str, Msg]:
    return {
        "name": str(operation.name)[:100],
        "num_qubits": int(operation.num_qubits),
        "num_parameters": int(operation.num_parameters),
        "duration_us": float(operation.duration_us),
        "fidelity": float(operation.fidelity),
        "at": [
            {"qubits": list(row.qubits), "duration_us": float(row.duration_us), "fidelity": float(row.fidelity)}
            for row in operation.at[:_MAX_LISTED]
        ],
    }


def pack_counts(counts: Mapping[int, int], num_clbits: int) -> Msg:
    """Pack checked counts for the way to the daemon."""
    if type(counts) is PackedCounts:
        return {"keys": counts.packed, "values": array("Q", counts.times).tobytes()}
    width = key_bytes(num_clbits)
    letter = _WIDTHS.get(width)
    if letter is None:
        keys = b"".join([key.to_bytes(width, "little") for key in counts])
    else:
        keys = struct.pack(f"<{len(counts)}{letter}", *counts)
    return {
        "keys": keys,
        "values": array("Q", counts.values()).tobytes(),
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
