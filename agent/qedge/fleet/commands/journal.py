"""The journal of commands: what is written here decides, whatever topics say.

A row keeps request and result for `keep_days` after the end, then it only tells that the command was (a tombstone) and
goes once the request has expired. What is older than the newest that went is refused, so that nothing that a node did
can be brought to it a second time, whatever its clock says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Final

from qedge.fleet.commands import rows
from qedge.fleet.commands.model import Entry
from qedge.store.store import Store

MARGIN_NS: Final = 3600 * 1_000_000_000
"""Tombstones outlive the expiry of their requests by this much: clocks may step."""


def digest_of(signed: bytes) -> bytes:
    """Return the digest by which a signed request is known."""
    return hashlib.sha3_256(signed).digest()


class Journal:
    """The rows of commands. What returned is on the disk; ids and digests are in memory, so a look costs nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._digests: dict[str, bytes] = {}
        self.served: Mapping[str, int] = {}
        """Ids of the keys that the node had since it keeps this journal, with when the first certificate was made."""

        self.newest_utc_ns = 0
        """When the newest command was signed, by its operator's clock."""

        self.dropped_utc_ns = 0
        """When the newest command was signed of those that are not known any more; 0: all still are."""

    async def open(self, key_id: str, certified_utc_ns: int) -> None:
        """Read which commands are known, and note whose they are: the node's key, and when its certificate was made."""
        self.served = await self._store.write(partial(rows.note_key, key_id=key_id, certified_utc_ns=certified_utc_ns))
        self._digests = await self._store.read(rows.all_digests)
        self.dropped_utc_ns = await self._store.read(rows.dropped_utc_ns)
        self.newest_utc_ns = max(self.dropped_utc_ns, await self._store.read(rows.newest_utc_ns))

    @property
    def size(self) -> int:
        """How many commands are known, tombstones included."""
        return len(self._digests)

    def digest(self, command: str) -> bytes | None:
        """Return the digest of a known command."""
        return self._digests.get(command)

    async def knows_serial(self, key_id: str, serial: int) -> bool:
        """Say whether a key used a serial before."""
        return await self._store.read(lambda connection: rows.knows_serial(connection, key_id, serial))

    async def add(self, entry: Entry) -> None:
        """Write a new command; raises `order.replayed`, `store.*`."""
        await self._store.write(lambda connection: rows.insert(connection, entry))
        self._digests[entry.id] = entry.digest
        if entry.code != "order.clock":
            self.newest_utc_ns = max(self.newest_utc_ns, entry.issued_utc_ns)

    async def change(self, entry: Entry) -> None:
        """Write what a command is now; raises `order.ended` where that cannot follow, `store.*`."""
        await self._store.write(lambda connection: rows.replace(connection, entry), accepted=True)

    async def told(self, command: str, revision: int) -> None:
        """Note that the broker has a revision."""
        await self._store.write(lambda connection: rows.note_told(connection, command, revision), accepted=True)

    async def get(self, command: str) -> Entry | None:
        """Read one command."""
        return await self._store.read(lambda connection: rows.one(connection, command))

    async def newest(self, limit: int) -> list[Entry]:
        """Read the newest commands, newest first, without requests and results."""
        return await self._store.read(lambda connection: rows.newest(connection, limit))

    async def unfinished(self) -> list[Entry]:
        """Read what has not ended, oldest first."""
        return await self._store.read(rows.unfinished)

    async def shown(self, *, untold: bool) -> list[str]:
        """Return which states the broker should have, or has not."""
        return await self._store.read(partial(rows.shown, untold=untold))

    async def out_of_date(self, before_utc_ns: int) -> list[str]:
        """Return which commands ended before and are still shown."""
        return await self._store.read(lambda connection: rows.out_of_date(connection, before_utc_ns))

    async def forget(self, command: str) -> None:
        """Make a command a tombstone."""
        await self._store.write(lambda connection: rows.forget(connection, command))

    async def drop(self, utc_ns: int) -> None:
        """Drop tombstones whose requests have expired."""
        work = partial(rows.drop, before_utc_ns=utc_ns - MARGIN_NS)
        gone, self.dropped_utc_ns = await self._store.write(work)
        for command in gone:
            self._digests.pop(command, None)
