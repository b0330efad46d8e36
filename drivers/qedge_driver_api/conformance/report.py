"""What the kit found: one result for each check, as data and as text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a check ended; `SKIPPED` where it could not be made, and says why."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class FailedError(Exception):
    """A check found the driver at fault; the text says what was expected and what was seen."""


class SkippedError(Exception):
    """A check does not apply here; the text says why."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: its stable `name`, what it `claims` of a good driver, how it ended and why, and how long it took."""

    name: str
    claim: str
    outcome: Outcome
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """All results for one driver, in the order in which the checks were made."""

    driver: str
    kind: str
    results: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed, and at least one passed."""
        outcomes = [result.outcome for result in self.results]
        return Outcome.FAILED not in outcomes and Outcome.PASSED in outcomes

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the failed checks."""
        return tuple(result.name for result in self.results if result.outcome is Outcome.FAILED)

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain values, as `--json` prints it."""
        return {
            "driver": self.driver,
            "kind": self.kind,
            "ok": self.ok,
            "checks": [
                {
                    "name": result.name,
                    "claim": result.claim,
                    "outcome": result.outcome.value,
                    "detail": result.detail,
                    "seconds": round(result.seconds, 4),
                }
                for result in self.results
            ],
        }

    def text(self) -> str:
        """Return the report for a person: one line a check, then the sum."""
        width = max((len(result.name) for result in self.results), default=0)
        lines = [f"driver {self.driver} ({self.kind})"]
        for result in self.results:
            says = result.claim if result.outcome is Outcome.PASSED else result.detail
            lines.append(f"  {result.outcome.value:7}  {result.name:{width}}  {says}")
        count = {each: sum(result.outcome is each for result in self.results) for each in Outcome}
        lines.append(", ".join(f"{number} {outcome.value}" for outcome, number in count.items()))
        return "\n".join(lines)
