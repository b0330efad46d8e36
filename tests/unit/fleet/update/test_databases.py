"""Copies of databases around an update: only what a new version changed is put back, and keys never."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from qedge.base.metrics import Metrics
from qedge.fleet.commands import rows
from qedge.fleet.commands.model import Entry, Phase
from qedge.fleet.update import databases
from qedge.fleet.update.databases import keep, main, restore
from qedge.store.store import Store


def _execute(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def _rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Make a state folder with all databases, each with one row."""
    for name in (*databases.COPIED, *databases.MOVED_AWAY):
        _execute(
            tmp_path / name,
            "PRAGMA journal_mode = WAL",
            "CREATE TABLE t (x)",
            "PRAGMA user_version = 3",
            "INSERT INTO t VALUES (1)",
        )
    keep(tmp_path)
    return tmp_path


def test_a_database_with_the_same_schema_keeps_what_came_since(state: Path) -> None:
    names = (*databases.COPIED, *databases.MOVED_AWAY)
    for name in names:
        _execute(state / name, "INSERT INTO t VALUES (2)")
    assert restore(state) == []
    assert [_rows(state / name) for name in names] == [2] * len(names)


def test_a_database_with_another_schema_is_put_back(state: Path) -> None:
    _execute(state / "qedge.sqlite3", "INSERT INTO t VALUES (2)", "PRAGMA user_version = 4")
    assert restore(state) == ["qedge.sqlite3"]
    assert _rows(state / "qedge.sqlite3") == 1
    assert restore(state) == []


def test_no_command_that_the_new_version_took_is_done_once_more_by_the_old_one(tmp_path: Path) -> None:
    database = tmp_path / "qedge.sqlite3"
    Store(database, metrics=Metrics()).close()
    keep(tmp_path)
    entry = Entry(
        "c", "wipe", "l", Phase.WAITING, 1, "olga", "k", 1, b"d", b"r", 70, issued_utc_ns=60, expires_utc_ns=90
    )
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        rows.insert(connection, entry)
    _execute(database, "PRAGMA user_version = 999")
    assert restore(tmp_path) == ["qedge.sqlite3"]
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert rows.all_digests(connection) == {}
        assert rows.dropped_utc_ns(connection) == 60
    Store(database, metrics=Metrics()).close()


def test_keys_are_never_put_back(state: Path) -> None:
    assert (state / "update" / "keys.sqlite3.before").read_text() == "3"
    _execute(state / "keys.sqlite3", "PRAGMA user_version = 4")
    assert restore(state) == ["keys.sqlite3"]
    assert not (state / "keys.sqlite3").exists()


def test_a_box_without_databases_has_nothing_to_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keep", str(tmp_path)]) == 0
    assert main(["restore", str(tmp_path)]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [[], []]


def test_a_damaged_database_is_told(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "spool.sqlite3").write_bytes(b"no database" * 100)
    assert main(["keep", str(state)]) == 74
    assert "not a database" in capsys.readouterr().err
