"""A QPU as `qedge drivers device` draws it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from qedge.cli.terminal import Terminal, clean, table_lines

if TYPE_CHECKING:
    from qedge.wire.device import DeviceOperation, DeviceView

_MAX_ROWS: Final = 64


def device_lines(found: DeviceView, terminal: Terminal) -> list[str]:
    """Draw the device: what it is, what it can do, and each of its qubits where it tells of them."""
    pairs = f"{len(found.coupling)} couplings" if found.coupling else "all qubits coupled"
    lines = [
        f"{terminal.bold(clean(found.name))}: {found.num_qubits} qubits, {clean(found.status)}, {pairs}",
        f"{found.queue_length} jobs wait at the device, at most {found.max_shots} shots, "
        f"takes {clean(', '.join(found.formats))}",
    ]
    if found.calibrated_at_s:
        when = datetime.fromtimestamp(found.calibrated_at_s, UTC).astimezone()
        lines.append(f"calibrated {when:%Y-%m-%d %H:%M:%S}")
    if found.operations:
        rows = [_operation(each) for each in found.operations[:_MAX_ROWS]]
        lines += ["", *table_lines(("OPERATION", "QUBITS", "DURATION", "FIDELITY"), rows, terminal=terminal)]
    told = [site for site in found.sites if site.name or site.t1_us or site.t2_us or site.readout_error]
    if told:
        qubits = [
            (str(site.index), clean(site.name), _us(site.t1_us), _us(site.t2_us), _share(site.readout_error))
            for site in told[:_MAX_ROWS]
        ]
        lines += ["", *table_lines(("QUBIT", "NAME", "T1", "T2", "READOUT ERROR"), qubits, terminal=terminal)]
    hidden = max(len(found.operations), len(told)) - _MAX_ROWS
    return [*lines, terminal.dim("--json has all of them.")] if hidden > 0 else lines


def _operation(operation: DeviceOperation) -> tuple[str, str, str, str]:
    durations = [row.duration_us for row in operation.at] or [operation.duration_us]
    fidelities = [row.fidelity for row in operation.at] or [operation.fidelity]
    qubits = str(operation.num_qubits or "any")
    return clean(operation.name), qubits, _span(durations, _us), _span(fidelities, lambda value: f"{value:.4g}")


def _span(values: Sequence[float], show: Callable[[float], str]) -> str:
    known = sorted(value for value in values if value)
    if not known:
        return "-"
    low, high = show(known[0]), show(known[-1])
    return low if low == high else f"{low} … {high}"


def _us(value: float) -> str:
    return f"{value:.4g} µs" if value else "-"


def _share(value: float) -> str:
    return f"{value:.2%}" if value else "-"
