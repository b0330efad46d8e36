"""Copies of the service's databases around an update (run as a program, by the user of the service).

`python -m qedge.fleet.update.databases keep|restore STATE_DIR`, while the service is stopped. An update may change the
schema of a database, and the version before refuses it then. `restore` puts back only what has another schema than
its copy, and notes there when the newest command was signed that the new version took: none of them is done once
more. The key store is never put back: a key that was handed out since would be handed out again. It is moved away
where its schema changed; links make new keys.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from qedge.base.errors import Exit
from qedge.fleet.commands.rows import dropped_utc_ns, newest_utc_ns, note_dropped

COPIED: Final = ("qedge.sqlite3", "spool.sqlite3", "telemetry.sqlite3")
MOVED_AWAY: Final = ("keys.sqlite3",)
FOLDER: Final = "update"
SUFFIX: Final = ".before"


def keep(state: Path) -> None:
    """Copy the databases into the staging folder; raises `sqlite3.Error`, `OSError`."""
    folder = state / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in (*COPIED, *MOVED_AWAY):
        copy = folder / (name + SUFFIX)
        copy.unlink(missing_ok=True)
        if not (state / name).is_file():
            continue
        if name in MOVED_AWAY:
            copy.write_text(str(_schema_of(state / name)))
            continue
        with (
            contextlib.closing(sqlite3.connect(state / name)) as source,
            contextlib.closing(sqlite3.connect(copy)) as to,
        ):
            source.backup(to)


def restore(state: Path) -> list[str]:
    """Put back what has another schema than its copy; returns the names. Raises `sqlite3.Error`, `OSError`."""
    changed = []
    for name in COPIED:
        copy = state / FOLDER / (name + SUFFIX)
        if copy.is_file() and _schema_of(copy) != _schema_of(state / name):
            _note_newest_command(state / name, copy)
            _remove(state / name)
            _copy(copy, state / name)
            changed.append(name)
    for name in MOVED_AWAY:
        note = state / FOLDER / (name + SUFFIX)
        if note.is_file() and note.read_text() != str(_schema_of(state / name)):
            _remove(state / name)
            changed.append(name)
    return changed


def _copy(origin: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(origin)) as source, contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def _note_newest_command(path: Path, copy: Path) -> None:
    """Note in the copy what would be lost with the database; nothing where it has no commands, or hides them."""
    with contextlib.suppress(sqlite3.Error):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            utc_ns = max(newest_utc_ns(connection), dropped_utc_ns(connection))
        with contextlib.closing(sqlite3.connect(copy)) as connection, connection:
            note_dropped(connection, utc_ns)


def _schema_of(path: Path) -> int:
    if not path.is_file():
        return -1
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def main(words: Sequence[str]) -> int:
    """Do it and print the names of what was put back, as JSON."""
    action, folder = words
    try:
        changed: list[str] = []
        if action == "restore":
            changed = restore(Path(folder))
        else:
            keep(Path(folder))
    except (sqlite3.Error, OSError) as error:
        print(error, file=sys.stderr)
        return int(Exit.IO)
    print(json.dumps(changed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
