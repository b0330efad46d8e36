"""The shape of the source: small modules and functions, rooms that look alike, exceptions with their reasons."""

from __future__ import annotations

import ast
import re

import pytest

from tests.house.source_tree import ROOT, modules

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "lib", "shared"}
SUPPRESSION = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma:\s*no cover)\b[^\n]*")
REASONED = re.compile(
    r"#\s*(?:noqa(?::\s*[A-Z0-9, ]+)|type:\s*ignore\[[a-z, -]+\]|pragma:\s*no cover)\s*(?:#|-|—|–)\s*\S.{5,}"
)


def test_modules_are_short_enough_to_read() -> None:
    long = [f"{module.file}: {lines}" for module in modules() if (lines := module.text.count("\n")) > MAX_MODULE_LINES]
    assert long == []


def test_functions_are_short_enough_to_read() -> None:
    long = [
        f"{module.file}:{node.lineno} {node.name}: {length}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_no_folder_or_module_has_a_vague_name() -> None:
    vague = [module.name for module in modules() if VAGUE & set(module.name.split("."))]
    assert vague == []


def test_every_package_says_what_it_is() -> None:
    silent = [module.name for module in modules() if ast.get_docstring(module.tree) is None]
    assert silent == []


def test_rooms_of_the_daemon_have_only_a_docstring_in_their_init() -> None:
    full = [
        str(module.file)
        for module in modules()
        if module.file.name == "__init__.py" and module.name.startswith("qedge.") and len(module.tree.body) > 1
    ]
    assert full == []


def test_every_suppressed_warning_has_its_reason_beside_it() -> None:
    bare = [
        f"{module.file}:{number}: {line.strip()}"
        for module in modules()
        for number, line in enumerate(module.text.splitlines(), 1)
        for match in SUPPRESSION.finditer(line)
        if not REASONED.match(match.group())
    ]
    assert bare == []


def test_nothing_is_left_to_do_later() -> None:
    marks = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b")
    left = [
        f"{module.file}:{number}"
        for module in modules()
        for number, line in enumerate(module.text.splitlines(), 1)
        if marks.search(line)
    ]
    assert left == []


@pytest.mark.parametrize(
    ("room", "most"),
    [("cli", 4), ("daemon", 15), ("web", 15)],  # what serves all capabilities of the room
)
def test_a_room_at_the_edge_keeps_its_capabilities_in_folders(room: str, most: int) -> None:
    folder = ROOT / "agent" / "qedge" / room
    flat = [file.name for file in sorted(folder.glob("*.py")) if file.name != "__init__.py"]
    assert len(flat) <= most, flat


def test_what_answers_over_http_is_furnished_alike() -> None:
    web = ROOT / "agent" / "qedge" / "web"
    no_node = {"key_delivery", "page"}  # the one asks a desk of its own, the other nobody
    folders = [folder for folder in web.iterdir() if (folder / "routes.py").exists()]
    assert {folder.name for folder in folders if not (folder / "ports.py").exists()} == no_node
    loose = [folder.name for folder in web.iterdir() if (folder / "__init__.py").exists() and folder not in folders]
    assert loose == []


@pytest.mark.parametrize("room", ["unit", "properties", "conformance", "integration", "house"])
def test_every_kind_of_test_is_there(room: str) -> None:
    assert list((ROOT / "tests" / room).rglob("test_*.py"))
