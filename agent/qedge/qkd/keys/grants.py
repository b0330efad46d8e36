"""Grants and keys in the database: who was given what, and copies that wait to be collected. Within one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.qkd.keys.model import KEY_STATES, KeyEvent, KeyState, Leg
from qedge.qkd.keys.vault import Vault
from qedge.wire.keys import Cut, KeyProvenance, VoidGrant

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_LEGS: Final = msgspec.msgpack.Decoder(tuple[Leg, ...])
_NAMES: Final = msgspec.msgpack.Decoder(tuple[str, ...])
_CUTS: Final = msgspec.msgpack.Decoder(tuple[Cut, ...])
_PROVENANCE: Final = msgspec.msgpack.Decoder(KeyProvenance)
_GRANT: Final = "number, id, role, state, peer, link, master, slaves, legs, digest, provenance, bits, open"
_JOINED: Final = ", ".join(f"grants.{name}" for name in _GRANT.split(", "))

MASTER: Final = "master"
SLAVE: Final = "slave"


@dataclass(frozen=True, slots=True)
class Grant:
    """A row of the journal. `slaves`: consumers at this node, in the order of the bits of `waiting`."""

    number: int
    id: bytes
    role: str
    state: KeyState
    peer: str
    link: str
    master: str
    slaves: tuple[str, ...]
    legs: tuple[Leg, ...]
    digest: bytes
    provenance: KeyProvenance
    bits: int
    open: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A key that is known here. `sealed` None: its bits are gone."""

    id: bytes
    state: KeyState
    waiting: int
    sealed: bytes | None
    grant: Grant


GrantRow = tuple[int, bytes, str, str, str, str, str, bytes, bytes, bytes, bytes, int, int]


class GrantBook:
    """The journal of grants; every function acts at once."""

    def __init__(self, connection: sqlite3.Connection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    def insert(self, grant: Grant, born_ns: int) -> int:
        """Journal a grant; returns its number (that in `grant` is not used). One without keys has ended already."""
        final = grant.state in KEY_STATES.final
        cursor = self._connection.execute(
            "INSERT INTO grants (id, role, state, peer, link, master, slaves, legs, digest, provenance, bits, open,"
            " born_ns, ended_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                grant.id,
                grant.role,
                grant.state.value,
                grant.peer,
                grant.link,
                grant.master,
                _ENCODE(grant.slaves),
                _ENCODE(grant.legs),
                grant.digest,
                _ENCODE(grant.provenance),
                grant.bits,
                grant.open,
                born_ns,
                born_ns if final else -1,
            ),
        )
        return cursor.lastrowid or 0

    def insert_keys(
        self, number: int, grant_id: bytes, state: KeyState, slaves: int, keys: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """Note keys (id, bits) of a grant; a copy is kept where `slaves` consumers here may collect it."""
        waiting = (1 << slaves) - 1
        self._connection.executemany(
            "INSERT INTO keys (id, grant_number, state, waiting, sealed) VALUES (?, ?, ?, ?, ?)",
            [
                (key_id, number, state.value, waiting, self._vault.seal_copy(key, grant_id, key_id) if slaves else None)
                for key_id, key in keys
            ],
        )

    def find(self, grant_id: bytes) -> Grant | None:
        """Return a grant that is remembered."""
        row = self._connection.execute(f"SELECT {_GRANT} FROM grants WHERE id = ?", (grant_id,)).fetchone()  # noqa: S608 - constant
        return _grant(row) if row is not None else None

    def find_key(self, key_id: bytes) -> Kept | None:
        """Return a key that is remembered, with its grant."""
        row = self._connection.execute(
            f"SELECT keys.id, keys.state, keys.waiting, keys.sealed, {_JOINED} FROM keys"  # noqa: S608 - constant
            " JOIN grants ON grants.number = keys.grant_number WHERE keys.id = ?",
            (key_id,),
        ).fetchone()
        return Kept(row[0], KeyState(row[1]), row[2], row[3], _grant(row[4:])) if row is not None else None

    def open_copy(self, kept: Kept) -> bytes:
        """Return the bits of a key that waits."""
        return self._vault.open_copy(kept.sealed or b"", kept.grant.id, kept.id)

    def settle(self, grant: Grant, state: KeyState, now_ns: int, left_open: int) -> None:
        """Take a grant to its next state; without open keys it has ended."""
        self._connection.execute(
            "UPDATE grants SET state = ?, open = ?, ended_ns = ? WHERE number = ?",
            (state.value, left_open, -1 if left_open else now_ns, grant.number),
        )

    def collected(self, kept: Kept, waiting: int, now_ns: int) -> None:
        """Note that one consumer had a key; with the last one its bits are destroyed."""
        state = kept.state
        if state is not KeyState.DELIVERED_SLAVE:
            state = KEY_STATES.next(state, KeyEvent.COLLECTED)
        if not waiting:
            state = KEY_STATES.next(state, KeyEvent.ERASED)
        self._connection.execute(
            "UPDATE keys SET state = ?, waiting = ?, sealed = CASE WHEN ? THEN sealed END WHERE id = ?",
            (state.value, waiting, waiting, kept.id),
        )
        if not waiting:
            self._close_one(kept.grant, now_ns)

    def spoil(self, kept: Kept, now_ns: int) -> None:
        """End one key that nobody will collect; its bits are destroyed."""
        state = KEY_STATES.next(kept.state, KeyEvent.AGED)
        self._connection.execute(
            "UPDATE keys SET state = ?, waiting = 0, sealed = NULL WHERE id = ?", (state.value, kept.id)
        )
        self._close_one(kept.grant, now_ns)

    def _close_one(self, grant: Grant, now_ns: int) -> None:
        self._connection.execute(
            "UPDATE grants SET open = open - 1, ended_ns = CASE WHEN open = 1 THEN ? ELSE -1 END WHERE number = ?",
            (now_ns, grant.number),
        )

    def end_keys(self, grant: Grant, event: KeyEvent, now_ns: int) -> None:
        """End all keys of a grant that are not final, and the grant; their bits are destroyed."""
        rows = self._connection.execute("SELECT id, state FROM keys WHERE grant_number = ?", (grant.number,)).fetchall()
        ended = []
        for key_id, text in rows:
            state = KeyState(text)
            if KEY_STATES.allows(state, event):
                ended.append((KEY_STATES.next(state, event).value, key_id))
        self._connection.executemany("UPDATE keys SET state = ?, waiting = 0, sealed = NULL WHERE id = ?", ended)
        after = KEY_STATES.next(grant.state, event) if KEY_STATES.allows(grant.state, event) else grant.state
        self.settle(grant, after, now_ns, 0)

    def unfinished(self) -> list[Grant]:
        """Return the grants of this node that were journalled and not handed over."""
        rows = self._connection.execute(
            # In the words of the index, which SQLite uses only then.
            f"SELECT {_GRANT} FROM grants WHERE role = 'master' AND state IN ('reserved', 'in relay')"  # noqa: S608 - constant
        ).fetchall()
        return [_grant(row) for row in rows]

    def older(self, born_before_ns: int, limit: int) -> list[Grant]:
        """Return grants that have open keys and were born before a time."""
        rows = self._connection.execute(
            f"SELECT {_GRANT} FROM grants WHERE ended_ns < 0 AND open > 0 AND born_ns < ? LIMIT ?",  # noqa: S608 - constant
            (born_before_ns, limit),
        ).fetchall()
        return [_grant(row) for row in rows]

    def open_of_link(self, link: str) -> list[Grant]:
        """Return grants with open keys of a link."""
        rows = self._connection.execute(
            f"SELECT {_GRANT} FROM grants WHERE ended_ns < 0 AND open > 0 AND link = ?",  # noqa: S608 - constant
            (link,),
        ).fetchall()
        return [_grant(row) for row in rows]

    def waiting_for_sessions(self, peer: str, limit: int) -> list[bytes]:
        """Return ids of keys that wait here for sessions with a peer, newest first."""
        rows = self._connection.execute(
            # In the words of the index, which SQLite uses only then.
            "SELECT keys.id FROM grants JOIN keys ON keys.grant_number = grants.number WHERE grants.ended_ns < 0"
            " AND grants.master = '@session' AND grants.peer = ? AND keys.waiting > 0"
            " ORDER BY grants.number DESC LIMIT ?",
            (peer, limit),
        ).fetchall()
        return [row[0] for row in rows]

    def forget(self, ended_before_ns: int, keep: int, limit: int) -> int:
        """Drop tombstones that are too old or too many, at most `limit` at a time; returns how many."""
        ended = self._connection.execute("SELECT count(*) FROM grants WHERE ended_ns >= 0").fetchone()[0]
        numbers = self._connection.execute(
            "SELECT number, ended_ns FROM grants WHERE ended_ns >= 0 ORDER BY ended_ns LIMIT ?", (limit,)
        ).fetchall()
        old = [(row[0],) for place, row in enumerate(numbers) if row[1] < ended_before_ns or place < ended - keep]
        self._connection.executemany("DELETE FROM keys WHERE grant_number = ?", old)
        self._connection.executemany("DELETE FROM grants WHERE number = ?", old)
        return len(old)

    # What peers have to be told

    def owe_void(self, peer: str, void: VoidGrant) -> None:
        """Note that a peer has to be told of a grant that came to nothing."""
        self._connection.execute(
            "INSERT OR IGNORE INTO voids (peer, grant_id, link, cuts) VALUES (?, ?, ?, ?)",
            (peer, void.id, void.link, _ENCODE(void.cuts)),
        )

    def owed_voids(self, peer: str, limit: int) -> tuple[VoidGrant, ...]:
        """Return what a peer has still to be told."""
        rows = self._connection.execute(
            "SELECT grant_id, link, cuts FROM voids WHERE peer = ? LIMIT ?", (peer, limit)
        ).fetchall()
        return tuple(VoidGrant(row[0], row[1], _CUTS.decode(row[2])) for row in rows)

    def void_told(self, peer: str, voids: Sequence[VoidGrant]) -> None:
        """Note that a peer has done it."""
        self._connection.executemany(
            "DELETE FROM voids WHERE peer = ? AND grant_id = ? AND link = ?",
            [(peer, void.id, void.link) for void in voids],
        )


def _grant(row: GrantRow) -> Grant:
    number, grant_id, role, state, peer, link, master, slaves, legs, digest, provenance, bits, left_open = row
    return Grant(
        number,
        grant_id,
        role,
        KeyState(state),
        peer,
        link,
        master,
        _NAMES.decode(slaves),
        _LEGS.decode(legs),
        digest,
        _PROVENANCE.decode(provenance),
        bits,
        left_open,
    )
