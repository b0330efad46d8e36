"""Key that the ends share for authentication: stocks, of which each block takes its pads, and each pad only once.

Bytes of a stock for `n` blocks: r of Alice (16) ‖ r of Bob (16) ‖ n × [pad (16), receipt (8)] of Alice ‖ n × [pad (16),
pad (16)] of Bob. So each direction has a stream of its own, read at the counter that a block names; a block that is
dropped has burnt its pads all the same. The first stock comes of the secret that the peer session exports, every later
one, hash keys included, of distilled key that is taken out of a block before the block is handed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qedge.base.errors import QedgeError
from qedge.qkd.authentication.tags import HASH_KEY_BYTES, PAD_BYTES

RECEIPT_BYTES: Final = 8
SEED_STOCK: Final = 0
"""Id of the stock that the seed gives; a later one has the id of the block that it came from."""

SEED_BLOCKS: Final = 64
"""Attempts that a seed pays for until the first block yields key."""

MIN_SEED_BYTES: Final = 32
_OF_ALICE: Final = PAD_BYTES + RECEIPT_BYTES
_OF_BOB: Final = 2 * PAD_BYTES
BLOCK_BITS: Final = 8 * (_OF_ALICE + _OF_BOB)
"""Key that the authentication of one block burns: three tags and one receipt."""


class KeptStock(msgspec.Struct, frozen=True):
    """A distilled stock between two runs of an end: `used` places of it are gone."""

    id: int
    used: int
    material: bytes

    def __repr__(self) -> str:
        return f"KeptStock({self.id}, {self.used})"


@dataclass(frozen=True, slots=True)
class BlockPads:
    """Keys of one block. `announced` and `accepted` authenticate Bob, `sealed` Alice: hash key ‖ pad, 32 bytes each.

    `receipt` is said by Alice once, in clear, and so proves one bit: that she has handed the block over.
    """

    announced: bytes
    sealed: bytes
    accepted: bytes
    receipt: bytes

    def __repr__(self) -> str:
        return "BlockPads()"


def stock_bytes(blocks: int) -> int:
    """Return how many bytes a stock for `blocks` blocks takes."""
    return 2 * HASH_KEY_BYTES + blocks * (_OF_ALICE + _OF_BOB)


class _Stock:
    def __init__(self, stock_id: int, material: bytes) -> None:
        self.id = stock_id
        self.blocks = (len(material) - 2 * HASH_KEY_BYTES) // (_OF_ALICE + _OF_BOB)
        self.used = 0
        self._material = bytearray(material)

    def take(self, index: int) -> BlockPads:
        """Return the pads of the place `index` and overwrite them."""
        r_alice, r_bob = bytes(self._material[:HASH_KEY_BYTES]), bytes(self._material[HASH_KEY_BYTES:][:HASH_KEY_BYTES])
        begin = 2 * HASH_KEY_BYTES
        alice = self._burn(begin + index * _OF_ALICE, _OF_ALICE)
        bob = self._burn(begin + self.blocks * _OF_ALICE + index * _OF_BOB, _OF_BOB)
        return BlockPads(
            r_bob + bob[:PAD_BYTES], r_alice + alice[:PAD_BYTES], r_bob + bob[PAD_BYTES:], alice[PAD_BYTES:]
        )

    @property
    def material(self) -> bytes:
        """All bytes, of which those of pads that were taken are zero."""
        return bytes(self._material)

    def erase(self) -> None:
        self._material[:] = bytes(len(self._material))

    def _burn(self, place: int, number: int) -> bytes:
        taken = bytes(self._material[place : place + number])
        self._material[place : place + number] = bytes(number)
        return taken


class KeyStocks:
    """One end's stocks, oldest first. Bob says which pads a block has (`next_place`), both take them (`take`).

    Raises `qkd.no_seed` where the seed is too short, `qkd.no_pads` where pads are gone or were never there.
    """

    def __init__(self, seed: bytes, link: str) -> None:
        if len(seed) < MIN_SEED_BYTES:
            raise QedgeError(
                "qkd.no_seed",
                f"The link {link} has no secret to authenticate its first block with.",
                fix="The peer session gives it; `qedge peers` says whether there is one.",
            )
        info = b"qedge/v1 qkd authentication " + link.encode()
        first = HKDF(SHA256(), stock_bytes(SEED_BLOCKS), None, info).derive(seed)
        self._stocks = [_Stock(SEED_STOCK, first)]
        self.changes = 0
        """Grows with every change of what `kept` returns."""
        self.burnt_bits = 0
        """Pads that are used up, those passed over included, in bits."""

    @property
    def left(self) -> int:
        """Blocks for which pads are there, those of the seed among them while there are no others."""
        return sum(stock.blocks - stock.used for stock in self._usable())

    @property
    def is_distilled(self) -> bool:
        """Whether there are pads of distilled key."""
        return any(stock.id != SEED_STOCK for stock in self._stocks)

    def add(self, stock_id: int, material: bytes) -> None:
        """Take in what a block gave; the seed's stock is then used no more by the end that chooses."""
        self._stocks.append(_Stock(stock_id, material))
        self.changes += 1

    def kept(self) -> tuple[KeptStock, ...]:
        """Return all distilled stocks as they are now, for `restore` in another run of this end.

        Only the newest state may ever be restored: an older one has pads that were used.
        """
        return tuple(KeptStock(each.id, each.used, each.material) for each in self._stocks if each.id != SEED_STOCK)

    def restore(self, kept: Iterable[KeptStock]) -> None:
        """Take distilled stocks of an earlier run, which the other end has as well.

        One that is used up is left out: it would go before the seed, which pays for blocks until there is key again.
        """
        for each in kept:
            stock = _Stock(each.id, each.material)
            stock.used = min(max(each.used, 0), stock.blocks)
            if stock.used < stock.blocks:
                self._stocks.append(stock)

    def next_place(self) -> tuple[int, int]:
        """Return stock and index of the pads to use next: distilled ones before those of the seed, else in order."""
        for stock in self._usable():
            if stock.used < stock.blocks:
                return stock.id, stock.used
        raise _no_pads()

    def take(self, stock_id: int, index: int) -> BlockPads:
        """Take the pads of a place; all before it count as burnt, and older stocks are erased."""
        self.changes += 1
        while self._stocks and self._stocks[0].id != stock_id:
            if not any(stock.id == stock_id for stock in self._stocks):
                raise _no_pads()
            self._drop_oldest()
        stock = self._stocks[0]
        if not stock.used <= index < stock.blocks:
            raise _no_pads()
        for passed in range(stock.used, index):
            stock.take(passed)
        self.burnt_bits += BLOCK_BITS * (index + 1 - stock.used)
        stock.used = index + 1
        return stock.take(index)

    @property
    def first_unused(self) -> tuple[int, int]:
        """Return stock and index of the first pads that were not used at this end."""
        return self._stocks[0].id, self._stocks[0].used

    def pass_over(self, stock_id: int, index: int) -> None:
        """Burn what the other end counts as used already; a place that is not known here changes nothing."""
        self.changes += 1
        for stock in self._stocks:
            if stock.id == stock_id and stock.used < index <= stock.blocks:
                self.burnt_bits += BLOCK_BITS * (index - stock.used)
                for passed in range(stock.used, index):
                    stock.take(passed)
                stock.used = index

    def _usable(self) -> list[_Stock]:
        """Return the stocks to choose from: distilled ones, and the seed's only while there is no other."""
        return [stock for stock in self._stocks if stock.id != SEED_STOCK] or self._stocks

    def _drop_oldest(self) -> None:
        stock = self._stocks.pop(0)
        if stock.id != SEED_STOCK:  # what the seed gave too much was no distilled key
            self.burnt_bits += BLOCK_BITS * (stock.blocks - stock.used)
        stock.erase()


def _no_pads() -> QedgeError:
    return QedgeError(
        "qkd.no_pads",
        "The pads that a block names were used before or are not there.",
        fix="The link begins anew with a fresh seed by itself.",
    )
