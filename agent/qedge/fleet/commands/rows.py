"""Rows of the journal of commands: functions that the store calls with its connection."""

from __future__ import annotations

import sqlite3
from dataclasses import fields
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.fleet.commands.model import ENDS, NEXT, Entry, Phase
from qedge.store import meta

_COLUMNS: Final = tuple(each.name for each in fields(Entry))
_LIST: Final = ", ".join(_COLUMNS)
_BRIEF: Final = ", ".join("x''" if name in ("request", "result") else name for name in _COLUMNS)
_CHANGING: Final = tuple(name for name in _COLUMNS if name not in ("id", "told"))
_SET: Final = ", ".join(f"{name} = ?" for name in _CHANGING)
_MARKS: Final = ", ".join("?" for _ in _COLUMNS)
_DROPPED: Final = "commands-dropped"
_SERVED: Final = "commands-keys"
_KEYS: Final = 64
"""Keys that are remembered; the oldest give way."""

_ENDS: Final = ", ".join(f"'{each}'" for each in sorted(ENDS))


def insert(connection: sqlite3.Connection, entry: Entry) -> None:
    """Write a new command; raises `order.replayed` where its operator's key used the serial before."""
    _check(Phase.NEW, entry.phase)
    try:
        connection.execute(f"INSERT INTO commands ({_LIST}) VALUES ({_MARKS})", _values(entry))  # noqa: S608 - names of columns
    except sqlite3.IntegrityError as error:
        raise replayed() from error


def replayed() -> QedgeError:
    """Make the error for a serial that was used before."""
    return QedgeError(
        "order.replayed", "The serial was used by another command of this key.", fix="Use a higher serial."
    )


def replace(connection: sqlite3.Connection, entry: Entry) -> None:
    """Write what a command is now; raises `order.ended` where that cannot follow what it was."""
    row = connection.execute("SELECT phase, revision FROM commands WHERE id = ?", (entry.id,)).fetchone()
    if row is None or entry.phase not in NEXT[Phase(row[0])] or entry.revision <= row[1]:
        raise QedgeError("order.ended", "The command is not where it could change so.")
    connection.execute(f"UPDATE commands SET {_SET} WHERE id = ?", (*_values(entry, _CHANGING), entry.id))  # noqa: S608 - names of columns


def note_told(connection: sqlite3.Connection, command: str, revision: int) -> None:
    """Note that the broker has a revision."""
    connection.execute("UPDATE commands SET told = ? WHERE id = ? AND told < ?", (revision, command, revision))


def one(connection: sqlite3.Connection, command: str) -> Entry | None:
    """Read one command."""
    row = connection.execute(f"SELECT {_LIST} FROM commands WHERE id = ?", (command,)).fetchone()  # noqa: S608 - names of columns
    return _entry(row) if row else None


def newest(connection: sqlite3.Connection, limit: int) -> list[Entry]:
    """Read the newest commands, newest first, without requests and results: those of many are too much at once."""
    query = f"SELECT {_BRIEF} FROM commands ORDER BY received_utc_ns DESC, id DESC LIMIT ?"  # noqa: S608 - names of columns
    return [_entry(row) for row in connection.execute(query, (limit,))]


def all_digests(connection: sqlite3.Connection) -> dict[str, bytes]:
    """Read which commands are known."""
    return {str(row[0]): bytes(row[1]) for row in connection.execute("SELECT id, digest FROM commands")}


def newest_utc_ns(connection: sqlite3.Connection) -> int:
    """Return when the newest command was signed, by its operator's clock; 0: there is none.

    Those that were refused for their time do not count: one from the future would keep all others out.
    """
    query = "SELECT coalesce(max(issued_utc_ns), 0) FROM commands WHERE code <> 'order.clock'"
    return int(connection.execute(query).fetchone()[0])


def unfinished(connection: sqlite3.Connection) -> list[Entry]:
    """Read what has not ended, in the order in which it came."""
    query = f"SELECT {_LIST} FROM commands WHERE phase NOT IN ({_ENDS}) ORDER BY received_utc_ns, id"  # noqa: S608 - names of columns
    return [_entry(row) for row in connection.execute(query)]


def shown(connection: sqlite3.Connection, *, untold: bool) -> list[str]:
    """Return the ids of all commands whose state is shown, or of those whose newest state the broker has not."""
    query = "SELECT id FROM commands WHERE request <> x'' AND (told < revision OR NOT ?)"
    return [str(row[0]) for row in connection.execute(query, (untold,))]


def out_of_date(connection: sqlite3.Connection, before_utc_ns: int) -> list[str]:
    """Return the ids of shown commands that ended before."""
    query = f"SELECT id FROM commands WHERE phase IN ({_ENDS}) AND ended_utc_ns < ? AND request <> x''"  # noqa: S608 - names of columns
    return [str(row[0]) for row in connection.execute(query, (before_utc_ns,))]


def forget(connection: sqlite3.Connection, command: str) -> None:
    """Keep of a command only what tells that it was."""
    connection.execute(
        "UPDATE commands SET request = x'', result = x'', reason = '', note = '' WHERE id = ?", (command,)
    )


def drop(connection: sqlite3.Connection, before_utc_ns: int) -> tuple[list[str], int]:
    """Drop what is forgotten and could not count again: it expired before. Returns the ids, and `dropped_utc_ns`.

    The clock that says so may be wrong and go back later, so what stays is when the newest of them was signed.
    """
    query = "DELETE FROM commands WHERE request = x'' AND expires_utc_ns < ? RETURNING id, issued_utc_ns, code"
    gone = connection.execute(query, (before_utc_ns,)).fetchall()
    note_dropped(connection, max((int(row[1]) for row in gone if row[2] != "order.clock"), default=0))
    return [str(row[0]) for row in gone], dropped_utc_ns(connection)


def note_dropped(connection: sqlite3.Connection, utc_ns: int) -> None:
    """Note when a command was signed that is not known any more."""
    if utc_ns > dropped_utc_ns(connection):
        meta.put(connection, _DROPPED, str(utc_ns))


def dropped_utc_ns(connection: sqlite3.Connection) -> int:
    """Return when the newest command was signed that was ever dropped, by its operator's clock; 0: none was."""
    return int(meta.find(connection, _DROPPED) or 0)


def note_key(connection: sqlite3.Connection, key_id: str, certified_utc_ns: int) -> dict[str, int]:
    """Note that the journal is of a node with this key; returns its keys with when each was certified first."""
    keys = msgspec.json.decode(meta.find(connection, _SERVED) or "{}", type=dict[str, int])
    keys[key_id] = min(certified_utc_ns, keys.pop(key_id, certified_utc_ns))
    keys = dict(list(keys.items())[-_KEYS:])
    meta.put(connection, _SERVED, msgspec.json.encode(keys).decode())
    return keys


def knows_serial(connection: sqlite3.Connection, key_id: str, serial: int) -> bool:
    """Say whether a key used a serial before."""
    query = "SELECT 1 FROM commands WHERE key_id = ? AND serial = ?"
    return connection.execute(query, (key_id, serial)).fetchone() is not None


def _check(before: Phase, after: Phase) -> None:
    if after not in NEXT[before]:
        raise QedgeError("order.ended", "A command cannot begin so.")


def _values(entry: Entry, names: tuple[str, ...] = _COLUMNS) -> tuple[object, ...]:
    return tuple(str(value) if isinstance(value, Phase) else value for value in map(entry.__getattribute__, names))


def _entry(row: tuple[object, ...]) -> Entry:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["phase"] = Phase(str(values["phase"]))
    return Entry(**values)  # type: ignore[arg-type] # the columns are those of the struct, with their types (STRICT)
