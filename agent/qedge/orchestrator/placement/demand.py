"""What a job needs, read off its submission, its estimate, or a glance at its text. Pure."""

from __future__ import annotations

import re
from typing import Final

from qedge.engine.ports import ANY
from qedge.orchestrator.placement.model import Demand, PlacementPolicy
from qedge.wire.jobs import JobEstimate, JobSubmission

_SMALL_TEXT: Final = 8192
_SMALL_QUBITS: Final = 14
_SMALL_SHOTS: Final = 100_000
_DECLARED: Final = (
    re.compile(r"qreg\s{1,8}\w{1,64}\s{0,8}\[\s{0,8}(\d{1,6})\s{0,8}\]"),
    re.compile(r"qubit\[\s{0,8}(\d{1,6})\s{0,8}\]"),
)
"""Both begin with letters that must be there, which are found ten times as fast as a choice of two patterns."""


def demand_of(
    job_id: str,
    submission: JobSubmission,
    estimate: JobEstimate | None,
    *,
    run_time_s: float,
    default: PlacementPolicy = PlacementPolicy.BALANCED,
    own: str = "",
) -> Demand:
    """Say what a job needs; `run_time_s` is what its run is expected to take here, `own` this node.

    Without an estimate nothing is known of its size: a node that cannot run it says so when it is offered.
    """
    policy = submission.placement or default
    named = submission.node if submission.node != ANY else ""
    if named:
        policy = PlacementPolicy.PINNED
    wanted = (f"qpu:{submission.qpu}",) if submission.qpu else ()
    return Demand(
        job_id=job_id,
        qubits=estimate.qubits if estimate is not None else 0,
        method=submission.method,
        shots=submission.shots,
        run_time_s=run_time_s,
        memory_bytes=estimate.memory_bytes if estimate is not None else 0,
        result_bytes=estimate.result_bytes if estimate is not None else 0,
        latency_class=submission.latency_class,
        policy=policy,
        pinned=named or (own if policy is PlacementPolicy.PINNED else ""),
        labels=(*submission.labels, *wanted),
        avoid=submission.avoid,
        qkd_backed=submission.qkd_backed,
        deadline_s=submission.deadline_s or 0.0,
    )


def is_small(submission: JobSubmission) -> bool:
    """Say whether a job is surely a matter of milliseconds, so that to estimate it first is not worth it.

    A short text that declares few qubits and only counts outcomes: whoever runs it estimates it in any case.
    """
    if submission.task is not None or submission.method or submission.deadline_s is not None:
        return False
    if not 0 < len(submission.program) <= _SMALL_TEXT or submission.shots > _SMALL_SHOTS:
        return False
    declared = [int(size) for pattern in _DECLARED for size in pattern.findall(submission.program)]
    return bool(declared) and sum(declared) <= _SMALL_QUBITS
