"""The schemas of databases that hold what waits to be sent: readings of attached devices, and what the node tells."""

from __future__ import annotations

from typing import Final

from qedge.store.schema import Schema

_LANE: Final = """(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    segment TEXT NOT NULL,
    channel TEXT NOT NULL,
    utc_ns INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT"""

SPOOL_MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
        # Readings that wait for the upstream, a table for each class, so that each is read and erased from its front.
        f"CREATE TABLE critical {_LANE}",
        f"CREATE TABLE telemetry {_LANE}",
        f"CREATE TABLE bulk {_LANE}",
        # The last sequence number of a device among readings that are gone.
        "CREATE TABLE sequences (device TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        # Numbers of epochs below `taken` are never used again.
        "CREATE TABLE epochs (segment TEXT PRIMARY KEY, taken INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        # Commands with a key of their client; `outcome` is empty until they ended.
        """CREATE TABLE commands (
            client TEXT NOT NULL,
            client_key TEXT NOT NULL,
            digest BLOB NOT NULL,
            request BLOB NOT NULL,
            outcome TEXT NOT NULL,
            detail TEXT NOT NULL,
            utc_ns INTEGER NOT NULL,
            PRIMARY KEY (client, client_key)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX commands_by_age ON commands (utc_ns)",
    ),
)

SPOOL_SCHEMA: Final = Schema(0x71656473, SPOOL_MIGRATIONS, ("cache_size = -8192", "journal_size_limit = 16777216"))
"""`spool.sqlite3`: what attached devices said and is not upstream yet, in a file of its own for the same reason."""

TELEMETRY_MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
        # What waits for those who watch the fleet; `sequence` counts in a class, `name` tells series apart.
        """CREATE TABLE items (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            sequence INTEGER NOT NULL,
            utc_ns INTEGER NOT NULL,
            name TEXT NOT NULL,
            body BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX items_by_kind ON items (kind, id)",
        # The last number that was given in a class.
        "CREATE TABLE sequences (kind TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        # Commands of local tools, by the topic they came on; `payload` is JSON, empty where only the name is kept.
        """CREATE TABLE foreign_commands (
            topic TEXT PRIMARY KEY,
            state TEXT NOT NULL,
            payload BLOB NOT NULL,
            changed_utc_ns INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX foreign_commands_by_age ON foreign_commands (changed_utc_ns)",
    ),
)

TELEMETRY_SCHEMA: Final = Schema(
    0x71656474, TELEMETRY_MIGRATIONS, ("cache_size = -4096", "journal_size_limit = 16777216")
)
"""`telemetry.sqlite3`: what the node says of itself and nobody has acknowledged yet, in a file of its own as well."""
