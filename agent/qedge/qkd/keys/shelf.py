"""Blocks and their pages in the database, within one transaction.

A shelf lives as long as one transaction: what it has read it holds, what it changed it writes at `flush`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.qkd.keys.cutting import pages_of
from qedge.qkd.keys.intervals import Intervals
from qedge.qkd.keys.model import BLOCK_STATES, BlockEvent, BlockState
from qedge.qkd.keys.vault import PAGE_BYTES, Vault
from qedge.wire.keys import BlockProvenance, Cut

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_SPENT: Final = msgspec.msgpack.Decoder(list[tuple[int, int]])
_PROVENANCE: Final = msgspec.msgpack.Decoder(BlockProvenance)
_COLUMNS: Final = "link, number, own, state, size, tag, spent, provenance, born_ns"
_AT_ONCE: Final = 64

Place = tuple[str, int, int]
"""Link, block, page."""

Row = tuple[str, int, int, str, int, bytes, bytes, bytes, int]


@dataclass(slots=True)
class Block:
    """A block as the transaction sees it. `size` in bytes."""

    link: str
    number: int
    own: bool
    state: BlockState
    size: int
    tag: bytes
    spent: Intervals
    provenance: BlockProvenance
    born_ns: int

    @property
    def left(self) -> int:
        """Bytes that are not spent."""
        return self.size - self.spent.total


class Shelf:
    """All blocks of the node, for the length of one transaction."""

    def __init__(self, connection: sqlite3.Connection, vault: Vault, random_bytes: RandomBytes) -> None:
        self._connection = connection
        self._vault = vault
        self._random_bytes = random_bytes
        self._blocks: dict[tuple[str, int], Block | None] = {}
        self._changed: set[tuple[str, int]] = set()
        self._gone: set[tuple[str, int]] = set()
        self._pools: dict[str, list[int]] = {}
        self._read_upto: dict[str, int] = {}
        self._pages: dict[Place, bytearray] = {}
        self._cut_pages: set[Place] = set()

    def add(self, block: Block, bits: bytes) -> None:
        """Take a block and its material."""
        for page in range(-(-block.size // PAGE_BYTES)):
            self._write_page((block.link, block.number, page), bits[page * PAGE_BYTES : (page + 1) * PAGE_BYTES])
        self._connection.execute(
            f"INSERT INTO blocks ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant
            (
                block.link,
                block.number,
                int(block.own),
                block.state.value,
                block.size,
                block.tag,
                _ENCODE(block.spent.pairs()),
                _ENCODE(block.provenance),
                block.born_ns,
            ),
        )
        self._blocks[block.link, block.number] = block

    def find(self, link: str, number: int) -> Block | None:
        """Return a block that is held, or None."""
        if (link, number) not in self._blocks:
            row = self._connection.execute(
                f"SELECT {_COLUMNS} FROM blocks WHERE link = ? AND number = ?",  # noqa: S608 - constant
                (link, number),
            ).fetchone()
            self._blocks[link, number] = _block(row) if row is not None else None
        return self._blocks[link, number]

    def pool(self, link: str) -> Iterator[Block]:
        """Give the stored blocks from which this end cuts, oldest first."""
        known = self._pools.setdefault(link, [])
        place = 0
        while True:
            while place < len(known):
                block = self.find(link, known[place])
                place += 1
                if block is not None and block.state is BlockState.STORED and block.own:
                    yield block
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM blocks WHERE link = ? AND own = 1 AND state = 'stored' AND number > ?"  # noqa: S608 - constant
                " ORDER BY number LIMIT ?",
                (link, self._read_upto.get(link, -1), _AT_ONCE),
            ).fetchall()
            if not rows:
                return
            for row in rows:
                self._blocks.setdefault((link, row[1]), _block(row))
                known.append(row[1])
            self._read_upto[link] = rows[-1][1]

    def oldest(self, link: str, *, own: bool) -> Block | None:
        """Return the first stored block of a direction."""
        rows = self._connection.execute(
            "SELECT number FROM blocks WHERE link = ? AND own = ? AND state = 'stored' ORDER BY number", (link, own)
        )
        found = (self.find(link, row[0]) for row in rows)
        return next((block for block in found if block is not None and block.state is BlockState.STORED), None)

    def all_blocks(self, link: str, first: int, limit: int) -> list[Block]:
        """Return blocks from number `first` on, in order."""
        rows = self._connection.execute(
            "SELECT number FROM blocks WHERE link = ? AND number >= ? ORDER BY number LIMIT ?", (link, first, limit)
        ).fetchall()
        found = (self.find(link, row[0]) for row in rows)
        return [block for block in found if block is not None]

    def newest_is_simulated(self, link: str) -> bool:
        """Say whether the newest block of a link came from simulated hardware; a link without blocks counts as that."""
        rows = self._connection.execute(
            "SELECT provenance FROM blocks WHERE link = ? ORDER BY number DESC LIMIT 1", (link,)
        )
        return all(_PROVENANCE.decode(row[0]).simulated for row in rows)

    def older(self, state: BlockState, born_before_ns: int) -> list[Block]:
        """Return blocks of a state that were born before a time."""
        rows = self._connection.execute(
            "SELECT link, number FROM blocks WHERE state = ? AND born_ns < ?", (state.value, born_before_ns)
        ).fetchall()
        found = (self.find(*row) for row in rows)
        return [block for block in found if block is not None and block.state is state]

    def move(self, block: Block, event: BlockEvent) -> None:
        """Take a block to its next state; in a final one its material is destroyed."""
        block.state = BLOCK_STATES.next(block.state, event)
        self._changed.add((block.link, block.number))
        if block.state in BLOCK_STATES.final:
            self._gone.add((block.link, block.number))
            self._blocks[block.link, block.number] = None

    def can_take(self, link: str, cuts: Sequence[Cut]) -> bool:
        """Say whether all these bytes are held, usable and unspent, and none is named twice."""
        trial: dict[int, Intervals] = {}
        for cut in cuts:
            block = self.find(link, cut.block)
            if block is None or block.state is not BlockState.STORED or cut.start + cut.size > block.size:
                return False
            spent = trial.setdefault(cut.block, Intervals(block.spent.pairs()))
            if not spent.add(cut.start, cut.start + cut.size):
                return False
        return True

    def take(self, link: str, cuts: Sequence[Cut]) -> bytes:
        """Spend bytes and return them; they are no longer in the database afterwards."""
        taken = bytearray()
        for cut in cuts:
            block = self._held(link, cut.block)
            if not block.spent.add(cut.start, cut.start + cut.size):
                raise QedgeError("internal.unexpected", "Key bits were about to be used twice.")
            for page, start, end in pages_of(cut.start, cut.start + cut.size, PAGE_BYTES):
                material = self._page((link, cut.block, page))
                taken += material[start:end]
                material[start:end] = bytes(end - start)
                self._cut_pages.add((link, cut.block, page))
            self._changed.add((link, cut.block))
            if not block.left:
                self.move(block, BlockEvent.SPENT)
        return bytes(taken)

    def burn(self, link: str, cuts: Sequence[Cut]) -> int:
        """Spend what is left of these bytes without reading them; returns how many bytes that were."""
        burnt = 0
        for cut in cuts:
            block = self.find(link, cut.block)
            if block is None or cut.start >= block.size:
                continue
            end = min(cut.start + cut.size, block.size)
            for start, upto in [gap for gap in block.spent.gaps(end) if gap[1] > cut.start]:
                piece = Cut(cut.block, max(start, cut.start), upto - max(start, cut.start))
                self.take(link, (piece,))
                burnt += piece.size
        return burnt

    def flush(self) -> None:
        """Write what was changed."""
        for link, number in self._gone:
            self._connection.execute("DELETE FROM pages WHERE link = ? AND block = ?", (link, number))
            self._connection.execute("DELETE FROM blocks WHERE link = ? AND number = ?", (link, number))
        for place in self._cut_pages:
            block = self._blocks.get(place[:2])
            if block is not None:
                self._renew_page(place, block)
        for link, number in self._changed - self._gone:
            block = self._held(link, number)
            self._connection.execute(
                "UPDATE blocks SET state = ?, spent = ? WHERE link = ? AND number = ?",
                (block.state.value, _ENCODE(block.spent.pairs()), link, number),
            )

    def _renew_page(self, place: Place, block: Block) -> None:
        """Seal what is left of a page under a new data key, and destroy the old one."""
        start, end = place[2] * PAGE_BYTES, min((place[2] + 1) * PAGE_BYTES, block.size)
        if any(gap[1] > start for gap in block.spent.gaps(end)):
            self._write_page(place, bytes(self._pages[place]))
        else:
            self._connection.execute("DELETE FROM pages WHERE link = ? AND block = ? AND page = ?", place)

    def _write_page(self, place: Place, page: bytes) -> None:
        data_key, sealed = self._vault.seal_page(page, _ENCODE(place), self._random_bytes)
        self._connection.execute(
            "INSERT INTO pages (link, block, page, data_key, sealed) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (link, block, page) DO UPDATE SET data_key = excluded.data_key, sealed = excluded.sealed",
            (*place, data_key, sealed),
        )

    def _page(self, place: Place) -> bytearray:
        if place not in self._pages:
            row = self._connection.execute(
                "SELECT data_key, sealed FROM pages WHERE link = ? AND block = ? AND page = ?", place
            ).fetchone()
            if row is None:
                raise QedgeError("qkd.store_damaged", "A page of key material is missing.", fix="Look at the disk.")
            self._pages[place] = bytearray(self._vault.open_page(row[0], row[1], _ENCODE(place)))
        return self._pages[place]

    def _held(self, link: str, number: int) -> Block:
        block = self.find(link, number)
        if block is None:
            raise QedgeError("internal.unexpected", "A block of key was changed that is not held.")
        return block


def _block(row: Row) -> Block:
    link, number, own, state, size, tag, spent, provenance, born_ns = row
    return Block(
        link,
        number,
        bool(own),
        BlockState(state),
        size,
        tag,
        Intervals(_SPENT.decode(spent)),
        _PROVENANCE.decode(provenance),
        born_ns,
    )
