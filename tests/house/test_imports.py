"""import-linter holds: layers, no circles, drivers apart; and the daemon stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.house.source_tree import ROOT, modules, project

HEAVY = ("cirq", "qsimcirq", "stim", "numba", "numpy", "scipy", "pandas", "matplotlib", "sympy", "qedge_drivers")
DAEMON_MODULES = ("qedge.daemon.lifecycle", "qedge.daemon.compose", "qedge.cli.node.run", "qedge.config")

NOT_ALONE = (
    "OpenSSL",
    "statistics",
    "difflib",
    "qedge.crypto.authority",
    "qedge.crypto.handshake",
    "qedge.crypto.pq_worker",
    "qedge.daemon.gateway",
    "qedge.devices.segments.service",
    "qedge.devices.service",
    "qedge.devices.ways_in.listener",
    "qedge.fleet.commands.service",
    "qedge.fleet.home_assistant.service",
    "qedge.fleet.sparkplug.topics",
    "qedge.fleet.telemetry.service",
    "qedge.fleet.thin_edge.service",
    "qedge.fleet.update",
    "qedge.orchestrator.uplink.service",
    "qedge.qkd.distillation",
    "qedge.security.audit",
    "qedge.security.detection.detector",
    "qedge.security.policy.document",
    "qedge.security.policy.service",
    "qedge.security.service",
    "qedge.wire.qkd",
    "qedge_device.constrained",
)
"""What a node that is alone, without devices and without links that distil, has no use for; with all below each."""

STARTS = """
import os, signal, sys
from qedge.cli.main import main
from qedge.daemon import lifecycle

def tell():
    print(" ".join(sorted(sys.modules)))
    os.kill(os.getpid(), signal.SIGTERM)

lifecycle.shorten_pauses = tell  # the first thing after READY
sys.exit(main(["run", "--quiet", "--state-dir", sys.argv[1], "--config", sys.argv[2]]))
"""
ALONE = """
broker.url = "mqtt://127.0.0.1:1"
[drivers.qrng]
driver = "sim_qrng"
enabled = false
"""


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


def test_what_a_node_that_is_alone_leaves_out_is_there() -> None:
    ours = [Path(*name.split(".")) for name in NOT_ALONE if name.startswith("qedge")]
    places = [ROOT / "agent" / each for each in ours]
    assert [each for each in places if not (each.is_dir() or each.with_suffix(".py").is_file())] == []


def test_a_node_that_is_alone_starts_without_what_only_others_need(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(ALONE)
    done = subprocess.run(
        [sys.executable, "-c", STARTS, str(tmp_path / "state"), str(tmp_path / "agent.toml")],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "qedge.daemon.compose" in loaded
    needless = {name for name in loaded for left in NOT_ALONE if f"{name}.".startswith(f"{left}.")}
    assert needless == set()


def test_the_driver_contract_loads_the_standard_library_only() -> None:
    loads = "import sys, qedge_driver_api; print(' '.join(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", loads], capture_output=True, text=True, timeout=60, cwd=ROOT / "drivers"
    )
    assert done.returncode == 0, done.stderr
    outside = {name.split(".")[0] for name in done.stdout.split()} - sys.stdlib_module_names
    assert {name for name in outside if not name.startswith("_")} <= {"qedge_driver_api"}
