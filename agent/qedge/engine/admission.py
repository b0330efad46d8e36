"""Admission before memory: may this job run here at all? Every refusal names limit, estimate and what would fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.units import format_bytes, format_duration
from qedge.engine.config import EngineConfig
from qedge.wire.jobs import JobEstimate, JobSubmission

_RETRY_SHARE: Final = 0.1
"""Part of what waits after whose end it is worth to look for room again."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a job may take: `memory_bytes` for all jobs together, `time_s` for this one."""

    memory_bytes: int
    time_s: float


def check_request(submission: JobSubmission, config: EngineConfig) -> None:
    """Refuse what needs no look at the program; raises `job.bad_shots`, `job.too_many_shots`, `circuit.too_large`."""
    if submission.shots < 1:
        raise QedgeError(
            "job.bad_shots", f"A job runs at least once, not {submission.shots} times.", fix="Ask for one shot or more."
        )
    if submission.shots > config.max_shots:
        raise QedgeError(
            "job.too_many_shots",
            f"{submission.shots} shots are more than the {config.max_shots} this node allows.",
            fix="Ask for fewer shots, or split them over several jobs.",
            limit=config.max_shots,
            asked=submission.shots,
        )
    check_length(submission.program, config)


def check_length(program: str, config: EngineConfig) -> None:
    """Refuse a program before any worker has to look at it; raises `circuit.too_large`."""
    if len(program) > config.limits.max_text_bytes:
        raise QedgeError(
            "circuit.too_large",
            f"The program has {len(program)} characters, the limit is {config.limits.max_text_bytes}.",
            fix="Use gate definitions for what repeats.",
            limit=config.limits.max_text_bytes,
        )


def budget(submission: JobSubmission, config: EngineConfig, available_bytes: int) -> Budget:
    """Say what a job may take now."""
    time_s = config.run_deadline_s
    if submission.deadline_s is not None:
        time_s = min(time_s, submission.deadline_s)
    return Budget(int(config.memory_share * available_bytes), time_s)


def admit(estimate: JobEstimate, allowed: Budget, config: EngineConfig) -> None:
    """Refuse a job that cannot run; raises `circuit.too_many_qubits`, `job.too_much_memory`, … ."""
    if estimate.memory_bytes > allowed.memory_bytes:
        state_vector = estimate.qubits >= 20 and estimate.memory_bytes >= 8 << estimate.qubits
        fits = max(0, (allowed.memory_bytes // 8).bit_length() - 1)
        raise QedgeError(
            "circuit.too_many_qubits" if state_vector else "job.too_much_memory",
            f"The job needs about {format_bytes(estimate.memory_bytes)} for {estimate.qubits} qubits; "
            f"this node can give {format_bytes(allowed.memory_bytes)}.",
            fix=f"Use at most about {fits} qubits, or a node with more memory.",
            qubits=estimate.qubits,
            fits_qubits=fits,
            memory_bytes=estimate.memory_bytes,
            limit=allowed.memory_bytes,
            method=estimate.method,
        )
    if estimate.result_bytes > config.max_result_bytes:
        raise QedgeError(
            "job.result_too_large",
            f"The result may take {format_bytes(estimate.result_bytes)}; the limit is "
            f"{format_bytes(config.max_result_bytes)}.",
            fix="Measure fewer bits or ask for fewer shots.",
            result_bytes=estimate.result_bytes,
            limit=config.max_result_bytes,
        )
    if estimate.time_s > allowed.time_s:
        raise QedgeError(
            "job.deadline_infeasible",
            f"The job takes about {format_duration(estimate.time_s)}; {format_duration(allowed.time_s)} are allowed.",
            fix="Give it a later deadline, fewer qubits or fewer shots.",
            time_s=round(estimate.time_s, 3),
            limit=allowed.time_s,
        )


def check_room(waiting: int, limit: int, backlog_s: Callable[[], float]) -> None:
    """Refuse a job where `limit` wait already; raises `job.queue_full` with a time after which to try again."""
    if waiting < limit:
        return
    retry_s = round(min(max(_RETRY_SHARE * backlog_s(), 0.1), 60.0), 1)
    raise QedgeError(
        "job.queue_full",
        f"{waiting} jobs wait already.",
        fix=f"Try again in {format_duration(retry_s)}, or use another node.",
        limit=limit,
        retry_after_s=retry_s,
    )


def check_deadline(deadline_s: float | None, predicted_s: float) -> None:
    """Refuse a job that would end too late; raises `job.deadline_unreachable` with what is predicted."""
    if deadline_s is not None and predicted_s > deadline_s:
        raise QedgeError(
            "job.deadline_unreachable",
            f"The job would end in about {format_duration(predicted_s)}; its deadline is in "
            f"{format_duration(deadline_s)}.",
            fix="Give it a later deadline or a more urgent class, or let any node run it.",
            predicted_s=round(predicted_s, 4),
            limit=deadline_s,
        )
