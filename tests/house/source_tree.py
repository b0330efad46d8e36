"""The source tree as the house tests read it: every module, and its syntax tree."""

from __future__ import annotations

import ast
import functools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = (ROOT / "agent", ROOT / "drivers")


@dataclass(frozen=True)
class Module:
    """One module: dotted name, file and text."""

    name: str
    file: Path
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        """Parse the text when it is asked for: all trees together are a million objects."""
        return ast.parse(self.text, str(self.file))

    @property
    def room(self) -> str:
        """Return the room of a module of `qedge`, the module's own name where it stands at the top."""
        return [*self.name.split("."), "", ""][1]


@functools.cache
def modules() -> tuple[Module, ...]:
    """Read all modules of all packages."""
    found: list[Module] = []
    for root in SOURCE_ROOTS:
        for file in sorted(root.rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = file.read_text("utf-8")
            found.append(Module(name, file, text))
    return tuple(found)


@functools.cache
def project() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@functools.cache
def nodes(module: Module) -> tuple[ast.AST, ...]:
    """Return all nodes of a module's syntax tree."""
    return tuple(ast.walk(module.tree))


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Give line and dotted name of everything that a module imports outside `if TYPE_CHECKING`."""
    skipped = {
        id(node)
        for test in nodes(module)
        if isinstance(test, ast.If) and isinstance(test.test, ast.Name) and test.test.id == "TYPE_CHECKING"
        for statement in test.body
        for node in ast.walk(statement)
    }
    for node in nodes(module):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
