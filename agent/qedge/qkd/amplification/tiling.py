"""Squares of 16·2^k words that cover a Toeplitz matrix of any shape at little cost."""

from __future__ import annotations

import functools
from typing import Final

SMALLEST: Final = 16
"""Words of the smallest square."""
_GROWTH: Final = 1.5
"""A strip of twice the height costs so many times more (Karatsuba: three squares of half the side instead of four)."""


@functools.cache
def _price(size: int) -> float:
    """Return the relative cost of a strip of this height; squares below 64 words gain nothing by being small."""
    doublings = (size // SMALLEST).bit_length() - 1
    return _GROWTH ** max(0, doublings - 2) * 4 ** min(2, doublings) / 4 ** min(2, doublings) * 2 ** min(2, doublings)


@functools.cache
def strips(extent: int) -> tuple[int, ...]:
    """Return heights, falling powers of two times 16, whose sum is at least `extent`, at the least cost.

    One larger strip that reaches beyond the matrix is often cheaper than several that do not.
    """
    if extent <= SMALLEST:
        return (SMALLEST,)
    over = 1 << (extent - 1).bit_length()
    if over == extent:
        return (over,)
    under = over >> 1
    split = (under, *strips(extent - under))
    return (over,) if _price(over) <= sum(map(_price, split)) else split


def _cover(tiles: list[tuple[int, int, int]], row: int, rows: int, column: int, columns: int) -> None:
    flat = rows <= columns
    for size in strips(min(rows, columns)):
        length = columns if flat else rows
        whole = length // size * size
        for at in range(0, whole, size):
            tiles.append((row, column + at, size) if flat else (row + at, column, size))
        if whole < length:
            if flat:
                _cover(tiles, row, size, column + whole, length - whole)
            else:
                _cover(tiles, row + whole, length - whole, column, size)
        row, column = (row + size, column) if flat else (row, column + size)


@functools.lru_cache(maxsize=64)
def cover(rows: int, columns: int) -> tuple[tuple[int, int, int], ...]:
    """Return squares (first row, first column, side), in words, that cover `rows` × `columns` without overlap.

    They may reach beyond the matrix.
    """
    tiles: list[tuple[int, int, int]] = []
    _cover(tiles, 0, rows, 0, columns)
    return tuple(tiles)
