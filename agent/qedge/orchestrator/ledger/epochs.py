"""Epochs: the numbers under which a job is given to runners, and from which its owner follows. Pure.

An epoch is `term · 2²⁰ + count`. `count` grows with every offer. `term` grows when another node takes the job over, and
`term mod 4` is the rank of the owner among the holders of the record: so no two nodes ever give a job away under the
same epoch, however the network is cut, and everybody who reads an epoch knows whose it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qedge.wire.jobs import MAX_HOLDERS

_COUNT_BITS: Final = 20


def rank_of(epoch: int) -> int:
    """Return the rank of the holder that owns the job under `epoch`."""
    return (epoch >> _COUNT_BITS) % MAX_HOLDERS


def owner_of(epoch: int, holders: Sequence[str]) -> str:
    """Return the owner, or nothing where the epoch names nobody."""
    rank = rank_of(epoch)
    return holders[rank] if rank < len(holders) else ""


def next_epoch(epoch: int) -> int:
    """Return the epoch of the owner's next offer."""
    return epoch + 1


def adopted_epoch(epoch: int, rank: int) -> int:
    """Return the first epoch of the holder of this rank that is above `epoch`."""
    term = (epoch >> _COUNT_BITS) + 1
    term += (rank - term) % MAX_HOLDERS
    return term << _COUNT_BITS
