"""A table that grows at its end and shrinks at its front: functions that the store calls with its connection.

Spools are made of such tables: their rows have an `id` that only grows, the wall time `utc_ns` and a `body`. One table
may hold several queues, told apart by `where`. Rows with ids in `(busy.after, busy.upto]` are on their way to somebody
and are left alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, NamedTuple

ROW_BYTES: Final = 96
"""What a row takes beside its body, about."""

_CHUNK: Final = 2048
_END: Final = 2**62


class Span(NamedTuple):
    """The ids above `after` up to `upto`."""

    after: int = 0
    upto: int = 0


NOTHING: Final = Span()


@dataclass(slots=True)
class Taken:
    """What is gone: rows, and the bytes that they took."""

    rows: int = 0
    num_bytes: int = 0


BeforeErase = Callable[[sqlite3.Connection, Span], None]


class Fifo:
    """One queue of a table; `where` is a condition of SQL that picks its rows, both are words of ours."""

    def __init__(self, table: str, where: str = "1", *, before_erase: BeforeErase | None = None) -> None:
        """`before_erase` is called in the same transaction with the rows still there."""
        self._rows = f"{table} WHERE {where} AND"
        self._before_erase = before_erase

    def size(self, connection: sqlite3.Connection) -> Taken:
        """Count what is there."""
        return self._sum(connection, Span(0, _END))

    def oldest_utc_ns(self, connection: sqlite3.Connection) -> int:
        """Return when the first row was made; 0: there is none."""
        found = connection.execute(
            f"SELECT utc_ns FROM {self._rows} id > 0 ORDER BY id LIMIT 1"  # noqa: S608 - words of ours
        ).fetchone()
        return int(found[0]) if found is not None else 0

    def erase(self, connection: sqlite3.Connection, span: Span, taken: Taken) -> None:
        """Erase a span of ids and count it."""
        if self._before_erase is not None:
            self._before_erase(connection, span)
        gone = self._sum(connection, span)
        connection.execute(f"DELETE FROM {self._rows} id > ? AND id <= ?", span)  # noqa: S608 - as above
        taken.rows += gone.rows
        taken.num_bytes += gone.num_bytes

    def free(
        self, connection: sqlite3.Connection, taken: Taken, *, num_bytes: int, rows: int = 0, busy: Span = NOTHING
    ) -> None:
        """Erase rows from the front until `num_bytes` bytes and `rows` rows are free, or nothing is left to erase."""
        for first, end in _around(busy):
            after = first
            while num_bytes > 0 or rows > 0:
                last = 0
                for row_id, length in self._page(connection, "length(body)", Span(after, end)):
                    last, num_bytes, rows = row_id, num_bytes - length - ROW_BYTES, rows - 1
                    if num_bytes <= 0 and rows <= 0:
                        break
                if not last:
                    break
                self.erase(connection, Span(after, last), taken)
                after = last

    def expire(self, connection: sqlite3.Connection, taken: Taken, *, before_ns: int, busy: Span = NOTHING) -> None:
        """Erase rows from the front that were made before `before_ns` (wall time)."""
        for first, end in _around(busy):
            after = first
            while True:
                chunk = list(self._page(connection, "utc_ns", Span(after, end)))
                old = list(takewhile(lambda row: row[1] < before_ns, chunk))
                if old:
                    self.erase(connection, Span(after, old[-1][0]), taken)
                    after = old[-1][0]
                if len(old) < _CHUNK:
                    break

    def thin(self, connection: sqlite3.Connection, taken: Taken, *, by: str, busy: Span = NOTHING) -> None:
        """Erase every second row of each `by` (a column) in the older half of the queue.

        Done again and again it leaves a past that grows sparser with its age, and of each series some rows.
        """
        middle = connection.execute(
            f"SELECT id FROM {self._rows} id > 0 ORDER BY id"  # noqa: S608 - as above
            f" LIMIT 1 OFFSET (SELECT count(*) / 2 FROM {self._rows} id > 0)"
        ).fetchone()
        if middle is None:
            return
        for after, end in _around(busy):
            gone = connection.execute(
                f"DELETE FROM {self._rows} id IN (SELECT id FROM"  # noqa: S608 - as above
                f" (SELECT id, row_number() OVER (PARTITION BY {by} ORDER BY id) AS place FROM {self._rows}"
                "  id > ? AND id <= ?) WHERE place % 2 = 0) RETURNING length(body)",
                (after, min(end, int(middle[0]))),
            ).fetchall()
            taken.rows += len(gone)
            taken.num_bytes += sum(size for (size,) in gone) + len(gone) * ROW_BYTES

    def _page(self, connection: sqlite3.Connection, column: str, span: Span) -> sqlite3.Cursor:
        query = f"SELECT id, {column} FROM {self._rows} id > ? AND id <= ?"  # noqa: S608 - as above
        return connection.execute(f"{query} ORDER BY id LIMIT ?", (*span, _CHUNK))

    def _sum(self, connection: sqlite3.Connection, span: Span) -> Taken:
        sums = "count(*), coalesce(sum(length(body)), 0)"
        query = f"SELECT {sums} FROM {self._rows} id > ? AND id <= ?"  # noqa: S608 - as above
        rows, size = connection.execute(query, span).fetchone()
        return Taken(int(rows), int(size) + int(rows) * ROW_BYTES)


def _around(busy: Span) -> tuple[Span, Span]:
    return Span(0, busy.after), Span(busy.upto, _END)
