"""The results of kinds of tasks as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qedge.cli.terminal import Terminal, histogram_lines, table_lines
from qedge.wire.jobs import JobResult
from qedge.wire.tasks import (
    AmplitudeResult,
    ExpectationResult,
    KernelResult,
    QaoaResult,
    QecResult,
    SampleResult,
)

_MAX_ROWS: Final = 40
_MAX_COLUMNS: Final = 12


def task_lines(result: JobResult, terminal: Terminal) -> list[str]:
    """Draw what a job gave: counts as a histogram, everything else as a table."""
    data = result.data
    if isinstance(data, ExpectationResult):
        return _expectation(data, terminal)
    if isinstance(data, AmplitudeResult):
        rows = [
            (str(index), f"{re:+.6f}", f"{im:+.6f}", f"{re * re + im * im:.6f}")
            for index, (re, im) in enumerate(zip(data.real, data.imag, strict=True))
        ]
        return _table(("STATE", "REAL", "IMAGINARY", "PROBABILITY"), rows, terminal)
    if isinstance(data, KernelResult):
        return _matrix(data.values, terminal)
    if isinstance(data, QecResult):
        return _qec(data)
    lines = histogram_lines(result.counts, terminal=terminal)
    if isinstance(data, QaoaResult):
        return [*_qaoa(data), "", *lines]
    if isinstance(data, SampleResult) and data.points:
        lines.append(terminal.dim(f"first of {len(data.points)} points; all of them with --json"))
    return lines


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], terminal: Terminal) -> list[str]:
    lines = list(table_lines(tuple(header), [tuple(row) for row in rows[:_MAX_ROWS]], terminal=terminal))
    if len(rows) > _MAX_ROWS:
        lines.append(terminal.dim(f"… {len(rows) - _MAX_ROWS} more with --json"))
    return lines


def _expectation(data: ExpectationResult, terminal: Terminal) -> list[str]:
    rows = []
    for point, values in enumerate(data.values):
        for number, value in enumerate(values):
            error = f"± {data.errors[point][number]:.2g}" if data.errors else "exact"
            rows.append((str(point), str(number), f"{value:+.6f}", error))
    return _table(("POINT", "OBSERVABLE", "VALUE", ""), rows, terminal)


def _matrix(values: Sequence[Sequence[float]], terminal: Terminal) -> list[str]:
    columns = min(_MAX_COLUMNS, len(values[0]) if values else 0)
    rows = [(str(index), *(f"{value:.4f}" for value in row[:columns])) for index, row in enumerate(values)]
    return _table(("ROW", *(str(column) for column in range(columns))), rows, terminal)


def _qaoa(data: QaoaResult) -> list[str]:
    return [
        f"best sample {data.best_bits}: cost {data.best_cost:g}",
        f"mean energy {data.energy:.6g} with {len(data.gammas)} layers after {data.evaluations} evaluations",
        f"optimum {data.optimum:g} at {data.optimum_bits} ({data.baseline}), "
        f"found by a shot with probability {data.optimum_probability:.3g}",
    ]


def _qec(data: QecResult) -> list[str]:
    return [
        f"logical errors {data.logical_errors} of {data.shots}: {data.error_rate:.3g} "
        f"(95 %: {data.low:.3g} … {data.high:.3g}), {data.error_rate_per_round:.3g} per round",
        f"{data.qubits} qubits, {data.detectors} detectors, {data.decoder}",
        f"one decoding takes {data.decode_p50_us:.3g} us, at most {data.decode_p99_us:.3g} us in 99 % "
        "(decoder alone, no transport)",
    ]
