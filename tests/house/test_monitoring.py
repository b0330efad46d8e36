"""The dashboard and the alert rules speak of metrics and labels that there are, and have the form that is read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from qedge.base.metrics import METRICS, Kind
from tests.house.source_tree import ROOT

DASHBOARD: Final = ROOT / "configs" / "grafana" / "qedge.json"
RULES: Final = ROOT / "configs" / "prometheus" / "qedge-rules.yml"
FOREIGN: Final = {"up"}
"""Metrics that Prometheus makes itself."""

TARGET_LABELS: Final = {"instance", "job"}
"""Labels that Prometheus adds."""

WORDS: Final = {"by", "without", "on", "ignoring", "or", "and", "unless", "le", "vector"}
FUNCTIONS: Final = {"rate", "increase", "sum", "count", "max", "histogram_quantile", "vector"}
SUFFIXES: Final = ("_bucket", "_sum", "_count")


def dashboard() -> dict[str, object]:
    found: dict[str, object] = json.loads(DASHBOARD.read_text("utf-8"))
    return found


def panels() -> list[dict[str, object]]:
    found = dashboard()["panels"]
    assert isinstance(found, list)
    return found


def targets() -> Iterator[tuple[str, str, str]]:
    """Give (panel, expression, legend)."""
    for panel in panels():
        for target in panel.get("targets", ()):  # type: ignore[attr-defined] # a list of objects
            yield str(panel["title"]), target["expr"], target["legendFormat"]


def rules() -> list[dict[str, object]]:
    return [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]


def spec_of(name: str) -> tuple[str, Kind]:
    """Return the metric of the table that a name in an expression stands for."""
    base = name
    for suffix in SUFFIXES:
        if name.endswith(suffix) and METRICS.get(name.removesuffix(suffix), None):
            base = name.removesuffix(suffix)
    assert base in METRICS, name
    assert (base != name) == (METRICS[base].kind is Kind.HISTOGRAM), name
    return base, METRICS[base].kind


def check_expression(expression: str) -> None:
    """Hold an expression against the table of metrics; raises `AssertionError`."""
    assert expression.count("(") == expression.count(")")
    names = set(re.findall(r"\bqedge_[a-z0-9_]+", expression))
    assert names or set(re.findall(r"\b[a-z_]+\b", expression)) & FOREIGN
    known = set(TARGET_LABELS)
    for name in names:
        base, kind = spec_of(name)
        known |= {*METRICS[base].labels, *({"le"} if kind is Kind.HISTOGRAM else ())}
        counted = re.search(rf"(rate|increase)\({name}(\{{[^}}]*\}})?\[\d+[smh]\]\)", expression)
        assert bool(counted) == (kind is not Kind.GAUGE), f"{name} in {expression}"
    for labels in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in labels.split(",")} <= known, expression
    for selector in re.findall(r"\{([^}]*)\}", expression):
        assert set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector)) <= known, expression
    if "histogram_quantile" in expression:
        assert re.search(r"by \([^)]*\ble\b", expression), expression
    assert set(re.findall(r"\b([a-z_]+)\s*\(", expression)) - WORDS <= FUNCTIONS, expression


def test_every_expression_of_the_dashboard_uses_metrics_and_labels_that_there_are() -> None:
    found = list(targets())
    assert len(found) > 30
    for _, expression, legend in found:
        check_expression(expression)
        assert "$instance" in expression
        names = re.findall(r"\bqedge_[a-z0-9_]+", expression)
        labels = {label for name in names for label in METRICS[spec_of(name)[0]].labels} | TARGET_LABELS
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels, legend


def test_every_label_in_a_legend_survives_the_aggregation() -> None:
    for title, expression, legend in targets():
        kept = re.search(r"\bby \(([^)]*)\)", expression)
        if kept is not None:
            labels = {label.strip() for label in kept[1].split(",")}
            assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels, title


def test_the_dashboard_has_the_form_that_grafana_reads() -> None:
    found = dashboard()
    for key, kind in (("title", str), ("uid", str), ("schemaVersion", int), ("panels", list), ("templating", dict)):
        assert isinstance(found[key], kind), key
    assert len(str(found["uid"])) <= 40
    identities = [panel["id"] for panel in panels()]
    assert len(set(identities)) == len(identities)
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["type"] in ("row", "stat", "timeseries")
        place = panel["gridPos"]
        assert isinstance(place, dict)
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["description"]
            assert panel["targets"]
    variables = found["templating"]
    assert isinstance(variables, dict)
    assert [each["name"] for each in variables["list"]] == ["datasource", "instance"]


def test_every_rule_uses_metrics_that_there_are_and_says_what_to_do() -> None:
    names = [str(rule["alert"]) for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        check_expression(str(rule["expr"]))
        assert re.fullmatch(r"\d+[smh]", str(rule.get("for", "1m")))
        labels, annotations = rule["labels"], rule["annotations"]
        assert isinstance(labels, dict)
        assert isinstance(annotations, dict)
        assert labels["severity"] in ("critical", "major", "warning")
        assert set(annotations) == {"summary", "description"}


def test_the_check_finds_expressions_that_are_wrong() -> None:
    for wrong in (
        "qedge_no_such_metric",
        "qedge_jobs_ended_total",  # a counter as it is
        "rate(qedge_jobs_queued[5m])",  # a gauge as a counter
        "histogram_quantile(0.9, sum by (instance) (rate(qedge_loop_lag_seconds_bucket[5m])))",
        "sum by (colour) (qedge_peers)",
        'qedge_peers{colour="red"}',
        "rate(qedge_loop_lag_seconds[5m])",
    ):
        with pytest.raises(AssertionError):
            check_expression(wrong)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_wrong_with_the_rules_and_the_expressions(tmp_path: Path) -> None:
    asked = [{"record": f"qedge:panel_{number}", "expr": each[1]} for number, each in enumerate(targets())]
    panels_as_rules = tmp_path / "panels.yml"
    panels_as_rules.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    for file in (RULES, panels_as_rules):
        done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
