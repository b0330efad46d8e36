"""Nouns of the workers: what a worker is made of and the states it goes through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from qedge.base.machine import StateTable

Msg = None | bool | int | float | str | bytes | list["Msg"] | dict[str, "Msg"]
"""What a worker is told and answers: plain MessagePack values."""


class WorkerState(StrEnum):
    """Where a worker is; `READY` waits for a call, `BUSY` runs one."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    BACKOFF = "backoff"
    STOPPED = "stopped"


class WorkerEvent(StrEnum):
    """What happens to a worker."""

    PREPARED = "prepared"
    CALLED = "called"
    ANSWERED = "answered"
    DIED = "died"
    RESTARTED = "restarted"
    STOPPED = "stopped"


WORKER_STATES: Final = StateTable(
    "worker",
    WorkerState.STARTING,
    frozenset({WorkerState.STOPPED}),
    {
        (WorkerState.STARTING, WorkerEvent.PREPARED): WorkerState.READY,
        (WorkerState.STARTING, WorkerEvent.DIED): WorkerState.BACKOFF,
        (WorkerState.READY, WorkerEvent.CALLED): WorkerState.BUSY,
        (WorkerState.READY, WorkerEvent.DIED): WorkerState.BACKOFF,
        (WorkerState.BUSY, WorkerEvent.ANSWERED): WorkerState.READY,
        (WorkerState.BUSY, WorkerEvent.DIED): WorkerState.BACKOFF,
        (WorkerState.BACKOFF, WorkerEvent.RESTARTED): WorkerState.STARTING,
        **{
            (state, WorkerEvent.STOPPED): WorkerState.STOPPED
            for state in (WorkerState.STARTING, WorkerState.READY, WorkerState.BUSY, WorkerState.BACKOFF)
        },
    },
)


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """How to make one worker: `target` is `package.module:Class`, `init` its constructor's argument.

    `memory_limit_bytes` bounds the address space beyond what the idle process has (0: no bound); `cpu_limit_s` the
    processor time of the process's whole life (0: no bound); a worker is replaced after `max_calls` calls.
    """

    name: str
    target: str
    init: Mapping[str, Msg] = field(default_factory=dict)
    start_timeout_s: float = 60.0
    heartbeat_timeout_s: float = 15.0
    memory_limit_bytes: int = 0
    cpu_limit_s: int = 0
    max_calls: int = 10_000
    env: Mapping[str, str] = field(default_factory=dict)
