"""With whom a node compares its map. Pure.

Each node has log₂ n partners: in the circle of names those 1, 2, 4, … places further on. That is few sessions, and news
crosses the circle in log₂ n steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

GATEWAYS: Final = 3
"""Nodes of a site that compare with other sites."""


def partners(me: str, others: Sequence[str]) -> tuple[str, ...]:
    """Return the partners of a node among all that live."""
    circle = sorted({me, *others})
    place, step, found = circle.index(me), 1, list[str]()
    while step < len(circle):
        found.append(circle[(place + step) % len(circle)])
        step *= 2
    return tuple(found)


def gateways(names: Sequence[str]) -> tuple[str, ...]:
    """Return the nodes that speak for a site: the first of its names, so that all come to the same without asking."""
    return tuple(sorted(names)[:GATEWAYS])


def pick(names: Sequence[str], uniform: float) -> str:
    """Return one of several names; `uniform` is drawn from [0, 1)."""
    return names[min(int(uniform * len(names)), len(names) - 1)]


class Rhythm:
    """When to compare again: soon after a connection and while there is news to pass on, else after about `period_ns`.

    News is passed on until `_QUIET` partners in a row had it already, as rumours are (Demers et al., "Epidemic
    algorithms for replicated database maintenance", PODC 1987): it is everywhere after about log₂ n times a second,
    and whoever was missed finds it with the next comparison of its own.
    """

    _SOON_NS: Final = 1_000_000_000
    _SETTLE_NS: Final = 200_000_000
    _QUIET: Final = 3

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self._news = 0
        self.due_ns = 0

    def connected(self, now_ns: int, uniform: float) -> None:
        """Take note of a new connection: all of a site may come back at once, so they spread over a second.

        Several comparisons follow, since the hearts of those who were on the other side are heard only after a while.
        """
        self._news = self._QUIET
        self._soon(now_ns, self._SETTLE_NS + int(uniform * self._SOON_NS))

    def compared(self, now_ns: int, uniform: float, *, differed: bool) -> None:
        """Take note of a comparison of this node's; one that found nobody counts as one that differed."""
        self._news = self._QUIET if differed else max(0, self._news - 1)
        wait_ns = self._SOON_NS if self._news else self._period_ns
        self.due_ns = now_ns + int(wait_ns * (0.75 + 0.5 * uniform))

    def asked(self, now_ns: int, uniform: float) -> None:
        """Take note that a peer compared with this node and differed: what it brought goes on from here, too."""
        self._news = self._QUIET
        self._soon(now_ns, int(self._SOON_NS * (0.75 + 0.5 * uniform)))

    def _soon(self, now_ns: int, wait_ns: int) -> None:
        self.due_ns = min(self.due_ns or now_ns + wait_ns, now_ns + wait_ns)
