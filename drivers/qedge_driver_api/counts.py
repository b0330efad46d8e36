"""Counts as bytes, for drivers that have them so: they go to the node as they stand, where a dict is read singly."""

from __future__ import annotations

from array import array
from collections.abc import ItemsView, Iterator, Mapping, ValuesView


class PackedCounts(Mapping[int, int]):
    """Classical values that were found, and how often each was.

    `packed` holds the values one after the other, little-endian, `width` bytes each, all different; `times` how often
    each was found, as a list or, which is checked faster, an array of type code "Q". `width` is that of the circuit:
    ceil(num_clbits / 8), at least 1. Read as a mapping it is the same as a dict, which is made when it is first asked
    for.
    """

    __slots__ = ("_whole", "packed", "times", "width")

    def __init__(self, packed: bytes, times: list[int] | array[int], width: int) -> None:
        self.packed = packed
        self.times = times
        self.width = width
        self._whole: dict[int, int] | None = None

    def _read(self) -> dict[int, int]:
        if self._whole is None:
            packed, width = self.packed, self.width
            keys = [int.from_bytes(packed[at : at + width], "little") for at in range(0, len(packed), width)]
            self._whole = dict(zip(keys, self.times, strict=True))
            if len(self._whole) != len(keys):
                raise ValueError("packed counts hold a value twice")
        return self._whole

    def __getitem__(self, value: int) -> int:
        return self._read()[value]

    def __iter__(self) -> Iterator[int]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self.times)

    def items(self) -> ItemsView[int, int]:
        """See `Mapping.items`."""
        return self._read().items()

    def values(self) -> ValuesView[int]:
        """See `Mapping.values`."""
        return self._read().values()


def key_bytes(num_clbits: int) -> int:
    """Return how many bytes a packed value of so many classical bits takes."""
    return max(1, -(-num_clbits // 8))
