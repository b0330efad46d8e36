"""Folders of demos go away, those of demos that were killed with the next demo."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from qedge.cli.demo.folder import PREFIX, DemoFolder

KILLED = "from qedge.cli.demo.folder import DemoFolder; import os, signal; DemoFolder(); os.kill(os.getpid(), 9)"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def folders(place: Path) -> set[Path]:
    return set(place.glob(f"{PREFIX}*"))


def test_the_folder_of_a_demo_that_was_killed_is_removed_by_the_next_one(place: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(place)}, check=False)
    (left,) = folders(place)
    (left / "alpha").mkdir()
    home = DemoFolder()
    assert folders(place) == {home.path}
    home.remove()
    assert folders(place) == set()


def test_folders_of_demos_that_run_of_nodes_that_stay_and_of_others_are_left_alone(place: Path) -> None:
    running, staying = DemoFolder(), DemoFolder(stays=True)
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "demo.lock").touch()
    (place / f"{PREFIX}link").symlink_to(elsewhere)
    (place / f"{PREFIX}other").mkdir()
    (place / f"{PREFIX}other" / "demo.lock").symlink_to(elsewhere / "demo.lock")
    before = folders(place)
    home = DemoFolder()
    assert folders(place) == before | {home.path}
    assert (elsewhere / "demo.lock").exists()
    for each in (running, staying, home):
        each.remove()
