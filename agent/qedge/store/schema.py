"""The database schema as numbered migrations; number n is the statement list that leads from version n−1 to n."""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x71656467
"""`qedg`: marks the file as ours (SQLite header field `application_id`)."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
        """CREATE TABLE jobs (
            id TEXT PRIMARY KEY,
            state TEXT NOT NULL,
            client TEXT NOT NULL,
            client_key TEXT NOT NULL,
            request_hash BLOB NOT NULL,
            priority INTEGER NOT NULL,
            submitted_utc_ns INTEGER NOT NULL,
            started_utc_ns INTEGER NOT NULL DEFAULT 0,
            ended_utc_ns INTEGER NOT NULL DEFAULT 0,
            expires_utc_ns INTEGER NOT NULL DEFAULT 0,
            attempts INTEGER NOT NULL DEFAULT 0,
            qpu TEXT NOT NULL DEFAULT '',
            submission BLOB NOT NULL,
            estimate BLOB NOT NULL,
            result BLOB,
            error BLOB
        ) STRICT, WITHOUT ROWID""",
        "CREATE UNIQUE INDEX jobs_by_client_key ON jobs (client, client_key) WHERE client_key <> ''",
        "CREATE INDEX jobs_by_state ON jobs (state, submitted_utc_ns)",
        "CREATE INDEX jobs_by_end ON jobs (ended_utc_ns) WHERE ended_utc_ns > 0",
    ),
    (
        # One row per identity: `state` is `current` or `pending` (a key that waits for its certificate).
        """CREATE TABLE identities (
            state TEXT PRIMARY KEY,
            fleet TEXT NOT NULL,
            node TEXT NOT NULL,
            standalone INTEGER NOT NULL,
            algorithm TEXT NOT NULL,
            seed BLOB NOT NULL,
            membership BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE TABLE revocations (fleet TEXT PRIMARY KEY, serial INTEGER NOT NULL, message BLOB NOT NULL) STRICT,"
        " WITHOUT ROWID",
        # `wanted_node` is what the submission asked for; `runner` the node that has the job now, '' for this one.
        "ALTER TABLE jobs ADD COLUMN wanted_node TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE jobs ADD COLUMN runner TEXT NOT NULL DEFAULT ''",
    ),
    (
        # Programs by the SHA-256 of their text.
        """CREATE TABLE templates (
            hash TEXT PRIMARY KEY,
            program TEXT NOT NULL,
            client TEXT NOT NULL,
            used_utc_ns INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX templates_by_use ON templates (used_utc_ns)",
    ),
)

VERSION: Final = len(MIGRATIONS)
