"""Squares of 16·2^k words that cover a Toeplitz matrix of any shape at little cost."""

from __future__ import annotations

import functools
from typing import Final

SMALLEST: Final = 16
"""Words of the smallest square."""
_PLAIN: Final = 64
"""Squares up to this side are multiplied as they stand: the kernels' `BASE`."""


@functools.cache
def _price(size: int) -> float:
    """Return the relative cost of a strip of this height: with Karatsuba's method twice the height costs 3/2."""
    return float(size) if size <= _PLAIN else 1.5 * _price(size >> 1)


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
    if rows > columns:
        mirrored: list[tuple[int, int, int]] = []
        _cover(mirrored, column, columns, row, rows)
        tiles += [(first, other, size) for other, first, size in mirrored]
        return
    for size in strips(rows):
        whole = columns // size * size
        tiles += [(row, column + at, size) for at in range(0, whole, size)]
        if whole < columns:
            _cover(tiles, row, size, column + whole, columns - whole)
        row += size


@functools.lru_cache(maxsize=64)
def cover(rows: int, columns: int) -> tuple[tuple[int, int, int], ...]:
    """Return squares (first row, first column, side), in words, that cover `rows` × `columns` without overlap.

    They may reach beyond the matrix.
    """
    tiles: list[tuple[int, int, int]] = []
    _cover(tiles, 0, rows, 0, columns)
    return tuple(tiles)
