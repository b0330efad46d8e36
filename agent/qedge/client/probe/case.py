"""What a case is, and how one ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from qedge.client.probe.stand import Stand


class Verdict(StrEnum):
    """How a case ended. `WARNED`: the standard leaves it open, and others will stumble over it."""

    PASSED = "passed"
    FAILED = "failed"
    WARNED = "warned"
    SKIPPED = "skipped"


class FailedError(Exception):
    """The key manager does what the standard forbids, or not what it demands."""


class WarnedError(Exception):
    """The key manager does what the standard allows and clients do not expect."""


class SkippedError(Exception):
    """The case needs what was not given."""


class CaseResult(msgspec.Struct, frozen=True):
    """One case of a report: `id` its number in our list of 82."""

    id: int
    title: str
    verdict: Verdict
    reason: str = ""


class ProbeReport(msgspec.Struct, frozen=True, tag_field="type", tag="kme-probe/1"):
    """All cases in the order of their numbers; `keys_consumed` as far as the probe knows."""

    url: str
    cases: tuple[CaseResult, ...]
    keys_consumed: int = 0

    def count(self, verdict: Verdict) -> int:
        """Return how many cases ended so."""
        return sum(case.verdict is verdict for case in self.cases)


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


def expect(condition: object, reason: str) -> None:
    """Fail the case where `condition` is not so."""
    if not condition:
        raise FailedError(reason)
