"""import-linter holds: layers, no circles, drivers apart; and the daemon stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.house.source_tree import ROOT, modules, project

HEAVY = ("cirq", "qsimcirq", "stim", "numba", "numpy", "scipy", "pandas", "matplotlib", "sympy", "qedge_drivers")
DAEMON_MODULES = ("qedge.daemon.lifecycle", "qedge.daemon.compose", "qedge.cli.node.run", "qedge.config")


def test_every_layer_rule_holds() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_is_placed_in_a_layer() -> None:
    layers = project()["tool"]["importlinter"]["contracts"][0]
    placed = {room.strip().strip("()") for layer in layers["layers"] for room in layer.split("|")} | set(
        layers["exhaustive_ignores"]
    )
    rooms = {module.room for module in modules() if module.name.startswith("qedge.")}
    assert rooms <= placed


def test_the_daemon_imports_nothing_heavy() -> None:
    loads = f"import sys, {', '.join(DAEMON_MODULES)}; print(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & set(HEAVY) == set()


def test_the_driver_contract_loads_the_standard_library_only() -> None:
    loads = "import sys, qedge_driver_api; print(' '.join(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", loads], capture_output=True, text=True, timeout=60, cwd=ROOT / "drivers"
    )
    assert done.returncode == 0, done.stderr
    outside = {name.split(".")[0] for name in done.stdout.split()} - sys.stdlib_module_names
    assert {name for name in outside if not name.startswith("_")} <= {"qedge_driver_api"}
