"""What a QDMI device tells of itself, in our words. Takes the objects of mqt-core; imports nothing of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from qedge_driver_api import (
    DeviceStatus,
    FatalError,
    JobStatus,
    OperationAt,
    OperationProperties,
    ProgramFormat,
    SiteProperties,
)
from qedge_drivers.qdmi.native import Native, canonical, native_of

DEVICE_STATUS: Final[Mapping[str, DeviceStatus]] = {status.name: status for status in DeviceStatus}
JOB_STATUS: Final[Mapping[str, JobStatus]] = {
    **{status.name: status for status in JobStatus},
    "CANCELED": JobStatus.CANCELLED,
}
FORMATS: Final[Mapping[str, ProgramFormat]] = {
    "QASM2": ProgramFormat.QASM2,
    "QASM3": ProgramFormat.QASM3,
    "QIR_BASE_STRING": ProgramFormat.QIR_BASE,
    "QIR_BASE_MODULE": ProgramFormat.QIR_BASE,
    "QIR_ADAPTIVE_STRING": ProgramFormat.QIR_ADAPTIVE,
    "QIR_ADAPTIVE_MODULE": ProgramFormat.QIR_ADAPTIVE,
}
_MICROSECONDS: Final[Mapping[str, float]] = {"s": 1e6, "ms": 1e3, "us": 1.0, "µs": 1.0, "ns": 1e-3, "ps": 1e-6}
_MAX_PLACES: Final = 4096


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while the device is open. `formats` are those that it takes programs in."""

    name: str
    num_qubits: int
    formats: tuple[ProgramFormat, ...]
    sites: tuple[SiteProperties, ...]
    operations: tuple[OperationProperties, ...]
    coupling: tuple[tuple[int, int], ...]
    native: Native


def asked(call: Callable[..., Any], *arguments: object) -> Any:  # whatever the device answers
    """Ask for a property; None where the device does not tell."""
    try:
        return call(*arguments)
    except (RuntimeError, ValueError):
        return None


def read(device: Any, most_qubits: int) -> Facts:
    """Ask a device for everything that it tells; `most_qubits` 0 takes all. Raises `FatalError`."""
    total = int(device.qubits_num())
    number = min(total, most_qubits) if most_qubits else total
    if number < 1:
        raise FatalError("the QDMI device has no qubits")
    places = sorted((asked(device.regular_sites) or [])[:number], key=lambda site: site.index())
    if [site.index() for site in places] != list(range(len(places))):
        raise FatalError("the sites of the QDMI device are not numbered from 0")
    unit_us = _unit_us(device)
    coupled = asked(device.coupling_map)
    pairs = None if coupled is None else _pairs(coupled, number)
    if pairs is not None and not pairs:
        pairs = None
    operations = {canonical(each.name()): each for each in device.operations()}
    pairs_of = {
        name: _pairs(own, number)
        for name, each in operations.items()
        if pairs is not None and (own := asked(each.site_pairs))
    }
    formats = tuple(dict.fromkeys(FORMATS[each.name] for each in _formats(device) if each.name in FORMATS))
    return Facts(
        name=str(device.name()),
        num_qubits=number,
        formats=formats,
        sites=_sites(places, operations.get("measure"), unit_us, number),
        operations=tuple(_operation(name, each, places, pairs, unit_us) for name, each in operations.items()),
        coupling=tuple(sorted({(min(pair), max(pair)) for pair in pairs or ()})),
        native=native_of(operations, pairs, pairs_of, controls=ProgramFormat.QASM3 in formats),
    )


def _formats(device: Any) -> list[Any]:
    return asked(device.supported_program_formats) or []


def _pairs(found: Any, number: int) -> frozenset[tuple[int, int]]:
    pairs = ((one.index(), other.index()) for one, other in found)
    return frozenset(pair for pair in pairs if max(pair) < number and pair[0] != pair[1])


def _unit_us(device: Any) -> float:
    """Return how many microseconds one unit of the device's durations is."""
    unit = _MICROSECONDS.get(str(asked(device.duration_unit) or "us"), math.nan)
    scale = asked(device.duration_scale_factor)
    return unit * (1.0 if scale is None else float(scale))


def _time_us(value: Any, unit_us: float) -> float:
    """Return a time in microseconds; 0 where the device does not tell, or in a unit that nobody knows."""
    time_us = 0.0 if value is None else float(value) * unit_us
    return time_us if math.isfinite(time_us) and time_us > 0 else 0.0


def _share(value: Any) -> float:
    """Return a fidelity; 0 where the device does not tell."""
    return 0.0 if value is None else min(1.0, max(0.0, float(value)))


def _sites(places: list[Any], measure: Any, unit_us: float, number: int) -> tuple[SiteProperties, ...]:
    """Describe every qubit; nothing where the device tells nothing of any."""
    rows = []
    for site in places:
        fidelity = None if measure is None else asked(measure.fidelity, [site])
        readout_error = 0.0 if fidelity is None else 1 - _share(fidelity)
        t1_us, t2_us = _time_us(asked(site.t1), unit_us), _time_us(asked(site.t2), unit_us)
        rows.append(SiteProperties(site.index(), t1_us, t2_us, readout_error, str(asked(site.name) or "")))
    told = any(row.t1_us or row.t2_us or row.readout_error or row.name for row in rows)
    return tuple(rows) if told and len(rows) == number else ()


def _operation(
    name: str, operation: Any, places: list[Any], pairs: frozenset[tuple[int, int]] | None, unit_us: float
) -> OperationProperties:
    """Describe an operation in general and at each place where that differs."""
    arity = asked(operation.qubits_num)
    general = _time_us(asked(operation.duration), unit_us), _share(asked(operation.fidelity))
    where: list[tuple[Any, ...]] = []
    if arity == 1:
        where = [(site,) for site in asked(operation.sites) or ()]
    elif arity == 2 and pairs is not None:
        where = list(asked(operation.site_pairs) or ())
    rows = []
    for place in where[:_MAX_PLACES]:
        indices = tuple(site.index() for site in place)
        if max(indices) >= len(places):
            continue
        duration = _time_us(asked(operation.duration, list(place)), unit_us)
        fidelity = _share(asked(operation.fidelity, list(place)))
        rows.append(OperationAt(indices, duration, fidelity))
    varies = any((row.duration_us, row.fidelity) != general for row in rows)
    # where the device only tells of places, their mean stands for all
    duration_us = general[0] or sum(row.duration_us for row in rows) / max(1, len(rows))
    fidelity = general[1] or sum(row.fidelity for row in rows) / max(1, len(rows))
    return OperationProperties(
        name,
        int(arity or 0),
        duration_us,
        fidelity,
        int(asked(operation.parameters_num) or 0),
        tuple(rows) if varies else (),
    )
