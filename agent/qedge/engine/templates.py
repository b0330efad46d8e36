"""Programs that are uploaded once and run by the hash of their text."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.store.store import Store
from qedge.wire.jobs import JobSubmission

_AT_HAND: Final = 32
_AT_HAND_CHARS: Final = 65_536
_PEERS: Final = "peers"
"""In place of the client, of a program that came from another node."""


def template_hash(program: str) -> str:
    """Return the SHA-256 of a program's UTF-8 text, in hex: its name."""
    return hashlib.sha256(program.encode()).hexdigest()


class Templates:
    """The node's shelf of programs, in its database: the `keep` used last."""

    def __init__(self, store: Store, keep: int) -> None:
        self._store = store
        self._keep = keep
        self._at_hand: OrderedDict[str, str] = OrderedDict()
        self.finder: Callable[[str], Awaitable[str | None]] | None = None
        """Looks for a program on other nodes; what comes is kept where it has the hash that was asked for."""

        self.on_kept: Callable[[str], None] = lambda _name: None
        """Hears of each program that was put on the shelf."""

    async def put(self, program: str, client: str, utc_ns: int) -> str:
        """Keep a program and return its hash; the same program again is the same template."""
        name = template_hash(program)

        def work(connection: sqlite3.Connection) -> None:
            # later than all others even where the wall clock stepped back: else the shelf, when full, drops this one
            connection.execute(
                "INSERT INTO templates (hash, program, client, used_utc_ns)"
                " SELECT ?, ?, ?, max(?, 1 + coalesce(max(used_utc_ns), 0)) FROM templates WHERE true"
                " ON CONFLICT (hash) DO UPDATE SET used_utc_ns = excluded.used_utc_ns",
                (name, program, client, utc_ns),
            )
            connection.execute(
                "DELETE FROM templates WHERE hash IN"
                " (SELECT hash FROM templates ORDER BY used_utc_ns DESC LIMIT -1 OFFSET ?)",
                (self._keep,),
            )

        await self._store.write(work)
        self.on_kept(name)
        return name

    async def program(self, name: str) -> str:
        """Return the program of a hash, from this node or one that has it; raises `job.no_template`."""
        program = await self.local(name)
        if program is None:
            program = await self._fetch(name)
        if program is None:
            raise QedgeError(
                "job.no_template",
                f"This node keeps no template {name[:16]}….",
                fix="Upload the program again; templates that are not used give way to others.",
            )
        return program

    async def names(self, limit: int) -> Sequence[str]:
        """Return the hashes of the programs used last, newest first."""
        query = "SELECT hash FROM templates ORDER BY used_utc_ns DESC LIMIT ?"
        return await self._store.read(lambda connection: [str(row[0]) for row in connection.execute(query, (limit,))])

    async def local(self, name: str) -> str | None:
        """Return a program of this node's shelf; None where it has none of this hash."""
        known = self._at_hand.get(name)
        if known is not None:
            self._at_hand.move_to_end(name)
            return known

        def query(connection: sqlite3.Connection) -> str | None:
            row = connection.execute("SELECT program FROM templates WHERE hash = ?", (name,)).fetchone()
            return str(row[0]) if row else None

        program = await self._store.read(query)
        if program is not None and len(program) <= _AT_HAND_CHARS:
            self._at_hand[name] = program
            if len(self._at_hand) > _AT_HAND:
                self._at_hand.popitem(last=False)
        return program

    async def _fetch(self, name: str) -> str | None:
        """Look for a program elsewhere, and put it on the shelf."""
        program = await self.finder(name) if self.finder is not None else None
        if program is None or template_hash(program) != name:
            return None
        await self.put(program, _PEERS, time.time_ns())
        return program

    async def filled(self, submission: JobSubmission) -> JobSubmission:
        """Return a submission with its program in place of the hash; raises `job.bad_request`, `job.no_template`."""
        if not submission.template:
            return submission
        if submission.program:
            raise QedgeError("job.bad_request", "A job has a program or a template, not both.", fix="Leave one out.")
        return msgspec.structs.replace(submission, program=await self.program(submission.template), template="")
