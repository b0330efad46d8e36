"""Wiping removes what the node is, only where it was marked, and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

import qedge
from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.daemon.fleet.commands import mark_and_wipe
from qedge.daemon.fleet.doors import HostRequests, clock_is_kept
from qedge.daemon.fleet.sparkplug import FILE as SPARKPLUG_FILE
from qedge.daemon.fleet.wiping import _FILES, _FOLDERS, MARK, mark_for_wiping, wipe_if_marked
from qedge.daemon.managed import Power
from qedge.fleet.configuration.files import LAYER_FILE
from qedge.fleet.update.databases import COPIED, FOLDER, MOVED_AWAY


def fill(folder: Path) -> None:
    folder.mkdir()
    for name in ("qedge.sqlite3", "qedge.sqlite3-wal", "keys.sqlite3", "keys.wrap", "agent.toml", "notes.txt"):
        (folder / name).write_bytes(b"secret" * 1000)
    for name in ("audit", "drivers/qpu", "mine"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("x")


def test_without_the_mark_nothing_is_removed(tmp_path: Path) -> None:
    fill(tmp_path / "state")
    before = sorted(tmp_path.rglob("*"))
    assert not wipe_if_marked(tmp_path / "state")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_marked_node_loses_everything_of_its_own_and_nothing_else(tmp_path: Path) -> None:
    state, outside = tmp_path / "state", tmp_path / "outside"
    fill(state)
    outside.mkdir()
    (outside / "precious").write_text("stays")
    (state / "drivers" / "link").symlink_to(outside)
    (state / "keys.sqlite3").unlink()
    (state / "keys.sqlite3").symlink_to(outside / "precious")
    mark_for_wiping(state, "test")
    assert wipe_if_marked(state)
    assert sorted(path.name for path in state.iterdir()) == ["agent.toml", "mine", "notes.txt"]
    assert (outside / "precious").read_text() == "stays"
    assert not wipe_if_marked(state)


def test_a_removal_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    fill(tmp_path / "state")
    mark_for_wiping(tmp_path / "state", "test")
    (tmp_path / "state" / "qedge.sqlite3").unlink()
    assert (tmp_path / "state" / MARK).exists()
    assert wipe_if_marked(tmp_path / "state")
    assert not (tmp_path / "state" / "keys.wrap").exists()


def test_what_is_overwritten_is_on_the_disk_before_its_blocks_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "state")
    mark_for_wiping(tmp_path / "state", "test")
    synced: dict[str, bytes] = {}

    def sync(number: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        if path.is_file():
            synced[path.name] = path.read_bytes()

    monkeypatch.setattr("os.fsync", sync)
    assert wipe_if_marked(tmp_path / "state")
    assert synced["keys.wrap"] == bytes(6000)


async def test_a_wiping_that_is_cancelled_leaves_no_mark_for_another_day(tmp_path: Path) -> None:
    wiped: list[bool] = []
    power = Power(lambda: None, lambda: wiped.append(True))
    task = asyncio.create_task(mark_and_wipe(tmp_path, power, ManualClock()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (tmp_path / MARK).exists() is bool(wiped)
    with pytest.raises(QedgeError) as caught:
        await mark_and_wipe(tmp_path / "none", power, ManualClock())
    assert caught.value.code == "order.failed"


def test_a_mark_that_is_a_link_is_none(tmp_path: Path) -> None:
    fill(tmp_path / "state")
    (tmp_path / "state" / MARK).symlink_to(tmp_path / "state" / "notes.txt")
    assert not wipe_if_marked(tmp_path / "state")


async def test_a_request_to_restart_the_box_stands_until_it_is_taken_or_withdrawn(tmp_path: Path) -> None:
    host = HostRequests(tmp_path)
    await host.ask()
    path = tmp_path / "requests" / "restart-host"
    assert path.exists()
    path.unlink()
    await host.taken()
    await host.ask()
    await host.withdraw()
    await host.withdraw()
    assert not path.exists()


def test_the_kernel_says_whether_its_clock_is_kept_or_nobody_can_tell() -> None:
    assert clock_is_kept() in (True, False, None)


def test_every_file_that_the_node_keeps_is_wiped_and_databases_come_back_after_a_bad_update() -> None:
    sources = Path(qedge.__file__).parent.rglob("*.py")
    databases = {name for path in sources for name in re.findall(r'"([a-z]+[.]sqlite3)"', path.read_text("utf-8"))}
    assert len(databases) >= 4
    assert databases <= set(_FILES)
    assert databases == {*COPIED, *MOVED_AWAY}
    assert SPARKPLUG_FILE in _FILES
    assert {LAYER_FILE.parts[0], FOLDER, "fleet", "diagnostics", "audit"} <= set(_FOLDERS)
