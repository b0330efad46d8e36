"""The schemas of the databases as numbered migrations; number n is what leads from version n−1 to n."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Schema:
    """One kind of database. `application_id` is in its header; `pragmas` are set at every opening, in their order."""

    application_id: int
    migrations: tuple[tuple[str, ...], ...]
    pragmas: tuple[str, ...] = ()


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
    (
        # Attached devices. `groups`, `attributes`, `posture` are JSON; `secret` is a root, or what proves CONNECT.
        """CREATE TABLE devices (
            id TEXT PRIMARY KEY,
            tier TEXT NOT NULL,
            state TEXT NOT NULL,
            device_class TEXT NOT NULL,
            groups TEXT NOT NULL,
            attributes TEXT NOT NULL,
            segment TEXT NOT NULL,
            location TEXT NOT NULL,
            posture TEXT NOT NULL,
            safety INTEGER NOT NULL,
            parameter INTEGER NOT NULL,
            key_id BLOB NOT NULL,
            secret BLOB NOT NULL,
            resumption BLOB NOT NULL,
            resume_until_utc_ns INTEGER NOT NULL,
            certified_until_utc_ns INTEGER NOT NULL,
            counter INTEGER NOT NULL,
            extra_id TEXT NOT NULL,
            extra BLOB NOT NULL,
            from_keys INTEGER NOT NULL,
            reason TEXT NOT NULL,
            changed_utc_ns INTEGER NOT NULL,
            created_utc_ns INTEGER NOT NULL,
            claim BLOB NOT NULL DEFAULT x''
        ) STRICT, WITHOUT ROWID""",
        # Apart, because they are large and seldom read: raw ML-DSA public key and certificate in DER.
        """CREATE TABLE device_keys (
            id TEXT PRIMARY KEY,
            public_key BLOB NOT NULL,
            certificate BLOB NOT NULL
        ) STRICT""",
        # `profile` is JSON; `uses` are left.
        """CREATE TABLE device_invitations (
            id TEXT PRIMARY KEY,
            token BLOB NOT NULL,
            device TEXT NOT NULL,
            approval INTEGER NOT NULL,
            uses INTEGER NOT NULL,
            expires_utc_ns INTEGER NOT NULL,
            profile BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        # Keys of the node for its devices, by kind: `authority` certifies them, to `kem` they seal.
        """CREATE TABLE device_node_keys (
            kind TEXT NOT NULL,
            serial INTEGER NOT NULL,
            fleet TEXT NOT NULL,
            node TEXT NOT NULL,
            signer TEXT NOT NULL,
            seed BLOB NOT NULL,
            document BLOB NOT NULL,
            until_utc_ns INTEGER NOT NULL,
            PRIMARY KEY (kind, serial)
        ) STRICT, WITHOUT ROWID""",
        # Keys of devices that count no more; kept until their certificates end.
        """CREATE TABLE revoked_devices (
            key_id BLOB PRIMARY KEY,
            device TEXT NOT NULL,
            until_utc_s INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        # `node` is where it was found, `subject` a device or an address; `record` has everything.
        """CREATE TABLE incidents (
            id TEXT PRIMARY KEY,
            node TEXT NOT NULL,
            subject TEXT NOT NULL,
            state TEXT NOT NULL,
            opened_utc_ns INTEGER NOT NULL,
            ended_utc_ns INTEGER NOT NULL DEFAULT 0,
            record BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX incidents_by_age ON incidents (opened_utc_ns)",
        "CREATE INDEX incidents_by_end ON incidents (ended_utc_ns) WHERE ended_utc_ns > 0",
        "CREATE INDEX incidents_by_subject ON incidents (subject, opened_utc_ns)",
        # The newest board of incidents of each node, this one included.
        "CREATE TABLE incident_boards (node TEXT PRIMARY KEY, serial INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        # Accounts of trust as they were at `utc_ns`.
        """CREATE TABLE trust (
            device TEXT PRIMARY KEY,
            utc_ns INTEGER NOT NULL,
            account BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        # What results of other nodes have been worth.
        "CREATE TABLE standings (node TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID",
        # The newest list of revoked devices of each other node; `message` is as that node signed it.
        """CREATE TABLE peer_device_lists (
            node TEXT PRIMARY KEY,
            serial INTEGER NOT NULL,
            message BLOB NOT NULL
        ) STRICT""",
        # The state that nodes share, as its writers signed it; `chain` names a row of the other table.
        """CREATE TABLE state_entries (
            ident BLOB PRIMARY KEY,
            writer TEXT NOT NULL,
            key_id TEXT NOT NULL,
            chain BLOB NOT NULL,
            covered BLOB NOT NULL,
            signature BLOB NOT NULL
        ) STRICT""",
        "CREATE TABLE state_chains (id BLOB PRIMARY KEY, chain BLOB NOT NULL) STRICT",
        # Who owns a job follows from its epoch; `holders` are the nodes with a record of it, by rank.
        "ALTER TABLE jobs ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN holders TEXT NOT NULL DEFAULT ''",
        # Records of jobs that other nodes own.
        """CREATE TABLE job_copies (
            id TEXT PRIMARY KEY,
            sender TEXT NOT NULL,
            client TEXT NOT NULL,
            client_key TEXT NOT NULL,
            request_hash BLOB NOT NULL,
            epoch INTEGER NOT NULL,
            ended_utc_ns INTEGER NOT NULL,
            kept_utc_ns INTEGER NOT NULL,
            record BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX job_copies_by_key ON job_copies (client, client_key) WHERE client_key <> ''",
        "CREATE INDEX job_copies_by_sender ON job_copies (sender, kept_utc_ns)",
        "CREATE INDEX job_copies_by_age ON job_copies (kept_utc_ns)",
    ),
    (
        # Commands of fleet operators. An empty request: the command is only remembered.
        """CREATE TABLE commands (
            id TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            lane TEXT NOT NULL,
            phase TEXT NOT NULL,
            revision INTEGER NOT NULL,
            operator TEXT NOT NULL,
            key_id TEXT NOT NULL,
            serial INTEGER NOT NULL,
            digest BLOB NOT NULL,
            request BLOB NOT NULL,
            received_utc_ns INTEGER NOT NULL,
            issued_utc_ns INTEGER NOT NULL,
            expires_utc_ns INTEGER NOT NULL,
            began_utc_ns INTEGER NOT NULL,
            ended_utc_ns INTEGER NOT NULL,
            boot_id TEXT NOT NULL,
            epoch INTEGER NOT NULL,
            told INTEGER NOT NULL,
            approvals TEXT NOT NULL,
            step TEXT NOT NULL,
            progress REAL NOT NULL,
            code TEXT NOT NULL,
            reason TEXT NOT NULL,
            note TEXT NOT NULL,
            result BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE UNIQUE INDEX commands_by_serial ON commands (key_id, serial)",
        "CREATE INDEX commands_by_phase ON commands (phase, ended_utc_ns)",
        "CREATE INDEX commands_by_time ON commands (received_utc_ns)",
        "CREATE INDEX commands_by_issue ON commands (issued_utc_ns) WHERE code <> 'order.clock'",
    ),
    (
        # What runners signed for results that came here: one signature for all of a second, one chain for many.
        """CREATE TABLE receipts (
            job TEXT PRIMARY KEY,
            epoch INTEGER NOT NULL,
            position INTEGER NOT NULL,
            path BLOB NOT NULL,
            root INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE receipt_roots (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            runner TEXT NOT NULL,
            chain BLOB NOT NULL,
            covered BLOB NOT NULL,
            signature BLOB NOT NULL
        ) STRICT""",
        "CREATE TABLE receipt_chains (digest BLOB PRIMARY KEY, chain BLOB NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE INDEX receipts_by_root ON receipts (root)",
        # What waits for the uplink; results are read from `jobs` when they go.
        """CREATE TABLE uplink_spool (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            payload BLOB NOT NULL,
            UNIQUE (kind, key)
        ) STRICT""",
    ),
    (
        # Readings that Sparkplug hosts have not had; `body` is a MessagePack array (fleet/sparkplug/spool).
        """CREATE TABLE sparkplug_past (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            utc_ms INTEGER NOT NULL,
            body BLOB NOT NULL
        ) STRICT""",
    ),
    (
        # Records of other nodes' jobs age by the time that this node runs, which begins now for those that it has.
        "ALTER TABLE job_copies RENAME COLUMN kept_utc_ns TO kept_ns",
        "UPDATE job_copies SET kept_ns = 0",
    ),
    (
        # Ended jobs age by the time that the node runs. Beside their table: there this would stand behind the results.
        "CREATE TABLE job_ages (id TEXT PRIMARY KEY, since_ns INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE INDEX job_ages_by_time ON job_ages (since_ns, id)",
    ),
)

VERSION: Final = len(MIGRATIONS)

NODE_SCHEMA: Final = Schema(APPLICATION_ID, MIGRATIONS, ("cache_size = -2048",))
"""`qedge.sqlite3`: everything but keys."""

KEY_MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
        # Where the bits of a link have gone; `account` is a MessagePack struct of counters.
        """CREATE TABLE links (
            name TEXT PRIMARY KEY,
            peer TEXT NOT NULL,
            highest INTEGER NOT NULL,
            account BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        # `size` and `spent` (a list of intervals) are in bytes, `born_ns` is by the key clock.
        """CREATE TABLE blocks (
            link TEXT NOT NULL,
            number INTEGER NOT NULL,
            own INTEGER NOT NULL,
            state TEXT NOT NULL,
            size INTEGER NOT NULL,
            tag BLOB NOT NULL,
            spent BLOB NOT NULL,
            provenance BLOB NOT NULL,
            born_ns INTEGER NOT NULL,
            PRIMARY KEY (link, number)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE pages (
            id INTEGER PRIMARY KEY,
            link TEXT NOT NULL,
            block INTEGER NOT NULL,
            page INTEGER NOT NULL,
            data_key BLOB NOT NULL,
            sealed BLOB NOT NULL
        ) STRICT""",
        "CREATE UNIQUE INDEX pages_by_place ON pages (link, block, page)",
        # `role`: `master` where this node made the grant, `slave` where its peer did. `open`: keys that are not final.
        """CREATE TABLE grants (
            number INTEGER PRIMARY KEY,
            id BLOB NOT NULL UNIQUE,
            role TEXT NOT NULL,
            state TEXT NOT NULL,
            peer TEXT NOT NULL,
            link TEXT NOT NULL,
            master TEXT NOT NULL,
            slaves BLOB NOT NULL,
            legs BLOB NOT NULL,
            digest BLOB NOT NULL,
            provenance BLOB NOT NULL,
            bits INTEGER NOT NULL,
            open INTEGER NOT NULL,
            born_ns INTEGER NOT NULL,
            ended_ns INTEGER NOT NULL DEFAULT -1
        ) STRICT""",
        "CREATE INDEX grants_by_birth ON grants (born_ns) WHERE ended_ns < 0",
        "CREATE INDEX grants_by_end ON grants (ended_ns) WHERE ended_ns >= 0",
        "CREATE INDEX grants_under_way ON grants (number) WHERE role = 'master' AND state IN ('reserved', 'in relay')",
        "CREATE INDEX grants_for_sessions ON grants (peer, number) WHERE master = '@session' AND ended_ns < 0",
        # `waiting`: a bit for each slave of the grant that may still collect.
        """CREATE TABLE keys (
            id BLOB PRIMARY KEY,
            grant_number INTEGER NOT NULL,
            state TEXT NOT NULL,
            waiting INTEGER NOT NULL,
            sealed BLOB
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX keys_by_grant ON keys (grant_number)",
        # What peers have still to be told.
        """CREATE TABLE voids (
            peer TEXT NOT NULL,
            grant_id BLOB NOT NULL,
            link TEXT NOT NULL,
            cuts BLOB NOT NULL,
            PRIMARY KEY (peer, grant_id, link)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE usage (
            link TEXT NOT NULL,
            consumer TEXT NOT NULL,
            role TEXT NOT NULL,
            keys INTEGER NOT NULL,
            bits INTEGER NOT NULL,
            PRIMARY KEY (link, consumer, role)
        ) STRICT, WITHOUT ROWID""",
    ),
)

KEY_SCHEMA: Final = Schema(
    0x71656B79, KEY_MIGRATIONS, ("secure_delete = ON", "cache_size = -8192", "journal_size_limit = 8388608")
)
"""`keys.sqlite3`: the key store, in a file of its own, so that a fast link never holds up the ledger of jobs."""
