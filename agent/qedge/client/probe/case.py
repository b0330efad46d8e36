"""What a case is, and the list of all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from qedge.client.probe.stand import Stand


@dataclass(frozen=True, slots=True)
class Case:
    """`consumes`: it takes keys out of the pool, so it needs consent."""

    id: int
    title: str
    consumes: bool
    run: Callable[[Stand], Awaitable[None]]


CASES: Final[dict[int, Case]] = {}


def case(
    number: int, title: str, *, consumes: bool = False
) -> Callable[[Callable[[Stand], Awaitable[None]]], Callable[[Stand], Awaitable[None]]]:
    """Enter a function into the list of cases."""

    def enter(run: Callable[[Stand], Awaitable[None]]) -> Callable[[Stand], Awaitable[None]]:
        CASES[number] = Case(number, title, consumes, run)
        return run

    return enter
