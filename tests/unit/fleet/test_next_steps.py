"""What a fleet operator is told of a command that failed ends in what he can do about it."""

from __future__ import annotations

import ast
from pathlib import Path

import qedge.fleet

NOT_TOLD = {"order.misdirected", "order.forgotten", "order.conflict", "order.flood"}
"""Nobody is told of these: they would answer a stranger, or speak for somebody else."""

NO_STEP = {"order.cancelled", "order.ended"}
"""What operators wanted, or have to read only."""

FOLDERS = ("commands", "configuration", "update", "diagnostics")


def test_every_error_of_a_command_says_what_to_do_next() -> None:
    root = Path(qedge.fleet.__file__).parent
    without = []
    for path in sorted(each for folder in FOLDERS for each in (root / folder).rglob("*.py") if each.stem != "fake"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "QedgeError"):
                continue
            code = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
            if code and code not in NOT_TOLD | NO_STEP and not any(each.arg == "fix" for each in node.keywords):
                without.append(f"{path.relative_to(root)}:{node.lineno}: {code}")
    assert without == []
