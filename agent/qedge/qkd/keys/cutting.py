"""The rules of cutting: who cuts from which block, and which bytes a request takes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from qedge.base.errors import QedgeError
from qedge.qkd.keys.intervals import Intervals
from qedge.wire.keys import MAX_KEY_BYTES, Cut

MAX_CUTS = 64
MAX_GRANT_BYTES = 192 * 1024
MAX_KEYS = 1024


def is_own(node: str, peer: str, block: int) -> bool:
    """Say whether `node` cuts keys from a block: the lower name has the even ones, so two masters never meet."""
    return (block % 2 == 0) == (node < peer)


def check_size(number: int, size_bits: int) -> int:
    """Return the bytes of one key; raises `qkd.bad_key_size`."""
    if size_bits < 8 or size_bits % 8 or size_bits > 8 * MAX_KEY_BYTES:
        raise QedgeError(
            "qkd.bad_key_size",
            f"A key of {size_bits} bits cannot be had.",
            fix=f"Ask for a multiple of 8, at most {8 * MAX_KEY_BYTES}.",
        )
    if not 1 <= number <= MAX_KEYS or number * size_bits > 8 * MAX_GRANT_BYTES:
        raise QedgeError(
            "qkd.bad_key_size",
            f"{number} keys of {size_bits} bits are more than one request may have.",
            fix=f"Ask for 1 to {MAX_KEYS} keys, {8 * MAX_GRANT_BYTES} bits together.",
        )
    return size_bits // 8


def plan_cuts(blocks: Iterable[tuple[int, int, Intervals]], need: int) -> tuple[Cut, ...] | None:
    """Return the cuts that give `need` bytes from blocks (number, size, spent), oldest first; None: not enough."""
    cuts: list[Cut] = []
    for number, size, spent in blocks:
        for start, end in spent.gaps(size):
            take = min(need, end - start)
            cuts.append(Cut(number, start, take))
            need -= take
            if not need:
                return tuple(cuts)
            if len(cuts) == MAX_CUTS:
                return None
    return None


def cut_bytes(cuts: Sequence[Cut]) -> int:
    """Return how many bytes cuts have together."""
    return sum(cut.size for cut in cuts)


def pages_of(start: int, end: int, page_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Give (page, from, to) for the bytes `start` to `end` of a block; `from` and `to` count within the page."""
    while start < end:
        page, offset = divmod(start, page_bytes)
        upto = min(page_bytes, offset + end - start)
        yield page, offset, upto
        start += upto - offset
