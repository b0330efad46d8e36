"""How cases end."""

from __future__ import annotations

from enum import StrEnum

import msgspec


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


def expect(condition: object, reason: str) -> None:
    """Fail the case where `condition` is not so."""
    if not condition:
        raise FailedError(reason)
