"""Merkle trees over results, as RFC 9162 section 2.1 defines them: one signature for many. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf_of(data: bytes) -> bytes:
    """Hash an entry."""
    return hashlib.sha256(b"\0" + data).digest()


def _node_of(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def root_and_paths(leaves: Sequence[bytes]) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """Return the root over hashes of entries, and for each the hashes beside its way there (section 2.1.3.1)."""
    if len(leaves) == 1:
        return leaves[0], [()]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    left, left_paths = root_and_paths(leaves[:split])
    right, right_paths = root_and_paths(leaves[split:])
    paths = [(*path, right) for path in left_paths] + [(*path, left) for path in right_paths]
    return _node_of(left, right), paths


def leads_to(root: bytes, leaf: bytes, position: int, count: int, path: Sequence[bytes]) -> bool:
    """Say whether a leaf stands at `position` in the tree of `count` leaves with this root (section 2.1.3.2)."""
    if not 0 <= position < count:
        return False
    at, last, found = position, count - 1, leaf
    for beside in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = _node_of(beside, found)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = _node_of(found, beside)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root
