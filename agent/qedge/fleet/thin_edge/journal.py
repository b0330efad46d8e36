"""Commands of local tools in the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from qedge.fleet.thin_edge.commands import MOST_KNOWN, PAST, LocalCommand, Status
from qedge.store.store import Store

_DECODER: Final = msgspec.json.Decoder(dict)
_ENCODE: Final = msgspec.json.Encoder().encode
_PAST: Final = tuple(sorted(each.value for each in PAST))


class StoredCommands:
    """Implements `CommandJournal`; raises `store.*`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def open(self, since_utc_ns: int) -> Sequence[LocalCommand]:
        """Return all commands that are known, without those that ended before `since_utc_ns`."""
        await self._store.write(partial(_forget, since_utc_ns=since_utc_ns), accepted=True)
        return await self._store.read(_all)

    async def keep(self, command: LocalCommand, utc_ns: int) -> None:
        """Write a command down, or its newer state; a newer state also on a full disk."""
        accepted = command.status is not Status.INIT
        await self._store.write(partial(_keep, command=command, utc_ns=utc_ns), accepted=accepted)


def _all(connection: sqlite3.Connection) -> list[LocalCommand]:
    found = connection.execute("SELECT topic, state, payload FROM foreign_commands ORDER BY changed_utc_ns, topic")
    return [
        LocalCommand(topic, topic.split("/")[-2], topic.split("/")[-1], Status(state), _DECODER.decode(payload))
        for topic, state, payload in found
    ]


def _keep(connection: sqlite3.Connection, *, command: LocalCommand, utc_ns: int) -> None:
    connection.execute(
        "INSERT INTO foreign_commands (topic, state, payload, changed_utc_ns) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (topic) DO UPDATE SET state = excluded.state, payload = excluded.payload,"
        " changed_utc_ns = excluded.changed_utc_ns",
        (command.topic, command.status.value, _ENCODE(dict(command.fields)), utc_ns),
    )
    connection.execute(
        "DELETE FROM foreign_commands WHERE state IN (?, ?, ?) AND topic IN"
        " (SELECT topic FROM foreign_commands ORDER BY changed_utc_ns DESC LIMIT 64 OFFSET ?)",
        (*_PAST, MOST_KNOWN),
    )


def _forget(connection: sqlite3.Connection, *, since_utc_ns: int) -> None:
    connection.execute(
        "DELETE FROM foreign_commands WHERE state IN (?, ?, ?) AND changed_utc_ns < ?", (*_PAST, since_utc_ns)
    )
