"""One source of truth for event names, error codes and metric names: the code and the tables agree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from qedge.base.errors import ERROR_CODES
from qedge.base.events import EVENTS
from qedge.base.metrics import METRICS
from tests.house.source_tree import ROOT, modules, nodes

LOG_METHODS = ("debug", "info", "warning", "error", "exception", "critical", "log")
METRIC_METHODS = ("add", "set", "observe", "forget", "value", "values", "histograms")
EVENT_NAME = re.compile(r"[a-z_]+\.[a-z_]+")


def _strings() -> Iterator[tuple[str, str]]:
    """Give (place, text) of every string constant in the daemon and its drivers, but for the tables themselves."""
    tables = ("qedge.base.errors", "qedge.base.events", "qedge.base.metrics")
    for module in modules():
        if module.name in tables:
            continue
        for node in nodes(module):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{module.file}:{node.lineno}", node.value


def _calls(methods: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Give (place, receiver, first text argument) of every call of one of `methods`."""
    for module in modules():
        for node in nodes(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods:
                for first in node.args[:2] if node.func.attr == "log" else node.args[:1]:
                    texts = (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,)
                    for text in texts:
                        if isinstance(text, ast.Constant) and isinstance(text.value, str):
                            yield f"{module.file}:{node.lineno}", ast.unparse(node.func.value), text.value


def _last_name(func: ast.expr) -> str:
    """Return the name by which something is called, without what stands before its last dot."""
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def test_every_event_in_the_code_is_in_the_table_and_the_other_way_round() -> None:
    used = [(place, text) for place, log, text in _calls(LOG_METHODS) if "log" in log.lower()]
    assert [f"{place}: {text}" for place, text in used if text not in EVENTS] == []
    written = {text for _, text in _strings()}
    assert sorted(set(EVENTS) - written) == []


def test_every_error_code_in_the_code_is_in_the_table_and_the_other_way_round() -> None:
    families = {code.split(".")[0] for code in ERROR_CODES}
    unknown = []
    written = {text for _, text in _strings()}
    for module in modules():
        for node in nodes(module):
            if isinstance(node, ast.Call) and node.args and _last_name(node.func).endswith("QedgeError"):
                first = node.args[0]
                if isinstance(first, ast.Constant) and first.value not in ERROR_CODES:
                    unknown.append(f"{module.file}:{node.lineno}: {first.value!r}")
    assert unknown == []
    assert families
    assert sorted(set(ERROR_CODES) - written) == []


def test_every_metric_in_the_code_is_in_the_table_and_the_other_way_round() -> None:
    written = {text for _, text in _strings()}
    named = {
        text for _, text in _strings() if re.fullmatch(r"qedge_[a-z_]+_(total|seconds|bytes|ratio|celsius|watts)", text)
    }
    used = {text for _, receiver, text in _calls(METRIC_METHODS) if "metrics" in receiver}
    assert sorted((named | used) - set(METRICS)) == []
    assert sorted(set(METRICS) - written) == []


def test_metric_names_follow_prometheus() -> None:
    for name, spec in METRICS.items():
        assert re.fullmatch(r"qedge_[a-z][a-z0-9_]*[a-z0-9]", name), name
        assert name.endswith("_total") == (spec.kind.value == "counter"), name


def test_every_error_event_and_metric_is_in_the_reference() -> None:
    for page, names in (("errors", ERROR_CODES), ("events", EVENTS), ("metrics", METRICS)):
        text = (ROOT / "docs" / "reference" / f"{page}.md").read_text("utf-8")
        assert [name for name in names if f"`{name}`" not in text] == []
