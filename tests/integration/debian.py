"""A Debian 12 that is booted in a container: what the tests of the service under a real systemd stand on.

The bare system and the wheels of the dependencies are kept in `~/.cache/qedge-test`, so only the first run needs a
network.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path.home() / ".cache" / "qedge-test"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv"

Seen = dict[str, Any]


def require_tools() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can boot a container")
    for tool in ("debootstrap", "systemd-nspawn"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("Debian 12 has Python 3.11, and the wheels are made with the interpreter of the tests")


def _fetch(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    if done.returncode != 0:
        pytest.skip(f"{what} cannot be fetched (no network?): {(done.stdout + done.stderr)[-300:]}")


def bare_system() -> Path:
    """Return the tree of a Debian 12 with systemd and Python, made at the first call."""
    tree = CACHE / f"debian-12-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:8]}"
    if not tree.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        draft = CACHE / f"draft-{os.getpid()}"
        try:
            _fetch(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(draft)], "Debian 12")
            draft.rename(tree)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return tree


def dependencies() -> Path:
    """Return a folder with the wheels of everything that the lock names."""
    lock = ROOT / "locks" / "run.txt"
    folder = CACHE / f"wheels-{hashlib.sha256(lock.read_bytes()).hexdigest()[:8]}"
    if not folder.is_dir():
        draft = CACHE / f"draft-wheels-{os.getpid()}"
        try:
            _fetch([sys.executable, "-m", "pip", "wheel", "-q", "-w", str(draft), "-r", str(lock)], "the dependencies")
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def container(tree: Path, *options: str) -> list[str]:
    # Without registration no host systemd is needed; without a network the ports of the host stay out of it.
    plain = ["--quiet", "--register=no", "--keep-unit", "--private-network", "--settings=no"]
    return ["systemd-nspawn", *plain, f"--directory={tree}", *options]


def plant(tree: Path) -> None:
    """Copy the bare system to where it may be changed."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(bare_system()), str(tree)], check=True, timeout=120)


def build_wheel(source: Path, wheels: Path) -> None:
    """Build the wheel of a source tree into a folder."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=source, check=True, capture_output=True, timeout=100)


def add_steps(tree: Path, steps: Sequence[Path]) -> None:
    """Let the machine run the first of `steps` once it is up, and go down afterwards."""
    unit = tree / "etc/systemd/system/steps.service"
    unit.write_text(
        "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\n"
        f"ExecStart=/usr/bin/python3 /{steps[0].name} /results\nExecStopPost=/bin/systemctl --no-block poweroff\n"
    )
    # Wanted by the default target but ordered after it: the machine is up before the first step.
    wants = tree / "etc/systemd/system/default.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "steps.service").symlink_to("/etc/systemd/system/steps.service")
    for each in steps:
        shutil.copy(each, tree / each.name)


def boot(tree: Path, results: Path, limit_s: float, *options: str) -> Seen:
    """Boot the machine, let it run its steps and return what they saw."""
    command = container(tree, f"--bind={results}:/results", *options, "--boot", "--console=pipe")
    with (results / "console.txt").open("wb") as console:
        machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        try:
            machine.wait(limit_s)
        except subprocess.TimeoutExpired:
            machine.terminate()
            machine.wait(30)
        finally:
            if machine.poll() is None:
                machine.kill()
    told = (results / "console.txt").read_text("utf-8", "replace")[-3000:]
    assert (results / "done").exists(), f"the steps did not end; the console said: {told}"
    return msgspec.json.decode((results / "seen.json").read_bytes(), type=Seen)


def step_of(seen: Seen, name: str) -> Seen:
    """Return what one step saw."""
    step: Seen = seen[name]
    assert "failed" not in step, step["failed"]
    return step
