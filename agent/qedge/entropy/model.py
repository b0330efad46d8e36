"""Nouns of the pool: states of a source, classes of failure, and what a draw gives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from qedge.base.machine import StateTable


class SourceState(StrEnum):
    """A source counts as quantum only while `HEALTHY`."""

    STARTING = "starting"
    HEALTHY = "healthy"
    FAILED = "failed"


class SourceEvent(StrEnum):
    """What the tests say of a source."""

    STARTUP_PASSED = "startup_passed"
    FAILURE = "failure"
    RETRY = "retry"


SOURCE_STATES: Final = StateTable(
    "entropy source",
    SourceState.STARTING,
    frozenset(),
    {
        (SourceState.STARTING, SourceEvent.STARTUP_PASSED): SourceState.HEALTHY,
        (SourceState.STARTING, SourceEvent.FAILURE): SourceState.FAILED,
        (SourceState.HEALTHY, SourceEvent.FAILURE): SourceState.FAILED,
        (SourceState.FAILED, SourceEvent.RETRY): SourceState.STARTING,
    },
)


class Failure(StrEnum):
    """`INTERMITTENT`: one window fell, the start-up test then passed. `PERSISTENT`: too many of those. `TOTAL`: stuck,
    silent, or the start-up test fell."""

    INTERMITTENT = "intermittent"
    PERSISTENT = "persistent"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class PoolOutput:
    """`data` is as strong as the operating system's generator at least; `quantum`: a healthy source took part too."""

    data: bytes
    quantum: bool
    simulated: bool
    source: str
