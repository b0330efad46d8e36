"""Every module that is not a declared edge takes time, randomness and the outside world as arguments."""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from pathlib import Path

from tests.house.source_tree import Module, imports, modules, nodes, project

FORBIDDEN = (
    "asyncio",
    "socket",
    "time",
    "random",
    "secrets",
    "threading",
    "sqlite3",
    "subprocess",
    "multiprocessing",
    "concurrent",
    "select",
    "selectors",
    "ssl",
    "http",
    "urllib.request",
    "aiohttp",
    "aiomqtt",
    "paho",
    "iotcore",
    "uvloop",
)
FORBIDDEN_CALLS = ("os.urandom", "uuid.uuid1", "uuid.uuid4", "datetime.now", "datetime.utcnow", "date.today")


def _edges() -> dict[str, list[str]]:
    edges: dict[str, list[str]] = project()["tool"]["qedge"]["edges"]
    return edges


def is_edge(module: Module) -> bool:
    """Say whether pyproject.toml declares a module an edge."""
    edges = _edges()
    return (
        module.room in edges["rooms"]
        or any(fnmatchcase(module.name, pattern) for pattern in edges["modules"])
        or module.name.rsplit(".", 1)[-1] in edges["names"]
    )


def pure_modules() -> list[Module]:
    """List the modules that must be pure: all of `qedge` and the two libraries that are no edges."""
    ours = ("qedge.", "qedge_driver_api", "qedge_device")
    return [module for module in modules() if module.name.startswith(ours) and not is_edge(module)]


def test_pure_modules_import_nothing_of_the_outside_world() -> None:
    found = [
        f"{module.file}:{line} imports {name}"
        for module in pure_modules()
        for line, name in imports(module)
        if any(name == bad or name.startswith(bad + ".") for bad in FORBIDDEN)
    ]
    assert found == []


def test_pure_modules_draw_neither_time_nor_randomness_from_the_system() -> None:
    last = {name.rpartition(".")[2] for name in FORBIDDEN_CALLS}
    found = [
        f"{module.file}:{node.lineno} calls {ast.unparse(node.func)}"
        for module in pure_modules()
        for node in nodes(module)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in last
        and ast.unparse(node.func).endswith(FORBIDDEN_CALLS)
    ]
    assert found == []


def test_declared_edges_exist() -> None:
    names = {module.name for module in modules()}
    rooms = {module.room for module in modules() if module.name.startswith("qedge.")}
    edges = _edges()
    assert set(edges["rooms"]) <= rooms
    assert [each for each in edges["modules"] if not any(fnmatchcase(name, each) for name in names)] == []


def test_the_rule_catches_a_module_that_breaks_it() -> None:
    text = "import asyncio\nfrom os import path\nimport time\n"
    module = Module("qedge.engine.model", Path("model.py"), text)
    assert not is_edge(module)
    assert [name for _, name in imports(module) if name in FORBIDDEN] == ["asyncio", "time"]
