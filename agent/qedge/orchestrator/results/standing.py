"""What a node's results have been worth so far, and how many of the next ones are run a second time. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from qedge.wire.standing import Standing

NEW_SHARE: Final = 0.75
"""Of the results of a node that is not known yet, or that was caught with something odd."""
KNOWN_AFTER: Final = 200
"""Results in a row that were confirmed, after which only the usual share is checked."""


def share(standing: Standing, usual: float) -> float:
    """Return the share of the node's next results to be checked in any case.

    It stays at `NEW_SHARE` for half of `KNOWN_AFTER` and falls to `usual` over the other half.
    """
    left = max(0.0, 1 - standing.clean / KNOWN_AFTER)
    return max(usual, NEW_SHARE * min(1.0, 2 * left))


def confirmed(standing: Standing, *, same: bool) -> Standing:
    """Note a result that a second run confirmed; `same`: to the letter, or not where that was not to be expected."""
    return msgspec.structs.replace(
        standing, checked=standing.checked + 1, clean=standing.clean + 1, odd=standing.odd + (not same)
    )


def suspected(standing: Standing) -> Standing:
    """Note a result that a second run contradicted while nobody could say which of the two was wrong."""
    return msgspec.structs.replace(standing, checked=standing.checked + 1, clean=0)


def convicted(standing: Standing, utc_ns: int, why: str) -> Standing:
    """Note a false result: the node gets no more jobs until an operator pardons it."""
    return msgspec.structs.replace(
        standing,
        checked=standing.checked + 1,
        clean=0,
        wrong=standing.wrong + 1,
        barred_utc_ns=standing.barred_utc_ns or utc_ns,
        why=why,
    )


def pardoned(standing: Standing) -> Standing:
    """Give the node jobs again, and look at it as at a new one."""
    return msgspec.structs.replace(standing, clean=0, barred_utc_ns=0, why="")
