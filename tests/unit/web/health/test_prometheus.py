from __future__ import annotations

import math

from qedge.base.metrics import METRICS, Metrics
from qedge.web.health.prometheus import render


def test_every_line_is_a_comment_or_a_sample_of_a_known_metric() -> None:
    for line in render(Metrics()).splitlines():
        name = line.split()[2] if line.startswith("#") else line.split("{")[0].split()[0]
        base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        assert name in METRICS or base in METRICS


def test_label_values_are_escaped() -> None:
    metrics = Metrics()
    metrics.set("qedge_service_up", 1, ('a"b\\c\nd',))
    assert 'qedge_service_up{service="a\\"b\\\\c\\nd"} 1' in render(metrics)


def test_buckets_are_cumulative_and_end_at_the_count() -> None:
    metrics = Metrics()
    for value in (0.0001, 0.003, 0.003, 99.0):
        metrics.observe("qedge_store_write_seconds", value)
    lines = [line for line in render(metrics).splitlines() if line.startswith("qedge_store_write_seconds")]
    counts = [int(line.split()[-1]) for line in lines if "_bucket" in line]
    assert counts == sorted(counts)
    assert counts[-1] == 4
    assert 'le="+Inf"' in lines[-3]
    assert lines[-1] == "qedge_store_write_seconds_count 4"


def test_untouched_counters_without_labels_start_at_zero() -> None:
    assert "\nqedge_bus_reconnects_total 0\n" in render(Metrics())


def test_odd_numbers_are_written_as_prometheus_reads_them() -> None:
    metrics = Metrics()
    for labels, value in ((("nan",), math.nan), (("up",), math.inf), (("down",), -math.inf), (("half",), 0.5)):
        metrics.set("qedge_host_temperature_celsius", value, labels)
    text = render(metrics)
    for label, written in (("nan", "NaN"), ("up", "+Inf"), ("down", "-Inf"), ("half", "0.5")):
        assert f'sensor="{label}"}} {written}\n' in text
