"""Metrics as text in the Prometheus exposition format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from qedge.base.metrics import METRICS, HistogramValue, Kind, Metrics, MetricSpec

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def render(metrics: Metrics) -> str:
    """Write all metrics down; those without labels are there from the start, the others once they have a series."""
    lines: list[str] = []
    for name, spec in METRICS.items():
        samples = list(_histogram(name, spec, metrics) if spec.kind is Kind.HISTOGRAM else _plain(name, spec, metrics))
        if samples:
            lines += [f"# HELP {name} {_escape_help(spec.help)}", f"# TYPE {name} {spec.kind}", *samples]
    return "\n".join(lines) + "\n"


def _plain(name: str, spec: MetricSpec, metrics: Metrics) -> Iterator[str]:
    series = metrics.values(name)
    if not series and not spec.labels and spec.kind is Kind.COUNTER:
        series = {(): 0.0}  # a counter that is missing until its first event cannot be used in a rate
    for labels, value in sorted(series.items()):
        yield f"{name}{_labels(spec.labels, labels)} {_number(value)}"


def _histogram(name: str, spec: MetricSpec, metrics: Metrics) -> Iterator[str]:
    series = metrics.histograms(name)
    if not series and not spec.labels:
        series = {(): HistogramValue([0] * (len(spec.buckets) + 1), 0.0, 0)}
    bounds = [*map(_number, spec.buckets), "+Inf"]
    for labels, value in sorted(series.items()):
        total = 0
        for bound, count in zip(bounds, value.counts, strict=True):
            total += count
            yield f"{name}_bucket{_labels((*spec.labels, 'le'), (*labels, bound))} {total}"
        yield f"{name}_sum{_labels(spec.labels, labels)} {_number(value.sum)}"
        yield f"{name}_count{_labels(spec.labels, labels)} {value.count}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escape_value(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _escape_value(text: str) -> str:
    return _escape_help(text).replace('"', '\\"')


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
