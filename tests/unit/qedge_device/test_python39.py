"""The device library stays readable for Python 3.9 and free of what a small device does not have."""

from __future__ import annotations

import ast
import subprocess
import sys

from tests.house.source_tree import ROOT, Module, imports, modules

LATER = {"match", "StrEnum", "TaskGroup", "ExceptionGroup", "tomllib", "Self", "slots", "kw_only", "strict", "UTC"}


def library() -> list[Module]:
    """Return the modules of the device library."""
    return [module for module in modules() if module.name.startswith("qedge_device")]


def test_the_library_parses_as_python_3_9() -> None:
    for module in library():
        ast.parse(module.text, str(module.file), feature_version=(3, 9))


def test_the_library_uses_nothing_that_came_after_python_3_9() -> None:
    found = []
    for module in library():
        assert "from __future__ import annotations" in module.text or module.name == "qedge_device"
        for node in ast.walk(module.tree):
            names = (
                [node.id]
                if isinstance(node, ast.Name)
                else [node.attr]
                if isinstance(node, ast.Attribute)
                else [node.arg or ""]
                if isinstance(node, ast.keyword)
                else []
            )
            found += [f"{module.file}: {name}" for name in names if name in LATER]
    assert found == []


def test_the_library_imports_the_standard_library_and_cryptography_alone() -> None:
    roots = {name.split(".")[0] for module in library() for _, name in imports(module)}
    assert roots - sys.stdlib_module_names <= {"cryptography", "qedge_device"}


def test_a_constrained_device_loads_no_public_key_code() -> None:
    loads = "import sys, qedge_device; print(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, timeout=60, cwd=ROOT / "agent")
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert not [name for name in loaded if name.endswith((".mldsa", ".mlkem", ".hpke", "agreement", ".rich"))]
