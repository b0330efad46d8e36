"""How busy a node is, as it tells those who may give it jobs; and where a job would go, as it tells those who ask."""

from __future__ import annotations

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Three = Annotated[tuple[Count, ...], msgspec.Meta(min_length=3, max_length=3)]
Waits = Annotated[tuple[Seconds, ...], msgspec.Meta(min_length=3, max_length=3)]


class NodeLoad(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="node-load/1"):
    """What a node has to do now, said inside sealed sessions. Of two, the one with the higher `(epoch, serial)` counts.

    `slots` is how many jobs its QPUs run at once, `free_slots` how many more could start now. `queued` jobs and
    `backlog_s`, the predicted time until a further job would start, are given for critical, interactive and batch jobs
    in this order. `factor` is the share of its usual work that the node wants, 0: none; `verdict` is `ok`, `degraded`
    or `critical`, and `reason` says why it is not `ok`. `draining`: it takes no further jobs.
    """

    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    serial: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    slots: Count = 0
    free_slots: Count = 0
    queued: Three = (0, 0, 0)
    backlog_s: Waits = (0.0, 0.0, 0.0)
    free_memory_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0
    factor: Share = 1.0
    verdict: Annotated[str, msgspec.Meta(max_length=16)] = "ok"
    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""
    draining: bool = False


class LoadView(msgspec.Struct, frozen=True, omit_defaults=True):
    """The load of a node as another one knows it, `age_s` seconds old; see `NodeLoad`."""

    slots: int = 0
    free_slots: int = 0
    queued: tuple[int, ...] = (0, 0, 0)
    backlog_s: tuple[float, ...] = (0.0, 0.0, 0.0)
    factor: float = 1.0
    verdict: str = "ok"
    reason: str = ""
    draining: bool = False
    age_s: float = 0.0


class ConsideredView(msgspec.Struct, frozen=True):
    """One node that was considered for a job: the lower the score the better; `why_not` empty: it can run it."""

    node: str
    score: float
    predicted_s: float
    why_not: str


class PlacementView(msgspec.Struct, frozen=True):
    """Where a job would go now (`node` empty: nobody can run it), by which policy, and all that were considered."""

    node: str
    policy: str
    score: float
    considered: tuple[ConsideredView, ...]
