"""Which nodes can run a job at all, and why the others cannot. Pure."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

from qedge.base.units import format_bytes
from qedge.orchestrator.placement.model import Candidate, Demand, PlacementPolicy

_GONE_S: Final = 60.0
"""A load that was heard of this long ago and not since, though it is told every other second, is no load any more."""


def reasons(demand: Demand, candidates: Sequence[Candidate], barred: Set[str]) -> list[str]:
    """Say of each node why it cannot run a job; empty: it can."""
    wanted, unwanted = frozenset(demand.labels), frozenset(demand.avoid)
    return [
        "" if _can(demand, each, barred, wanted, unwanted) else why_not(demand, each, barred) for each in candidates
    ]


def _can(
    demand: Demand, candidate: Candidate, barred: Set[str], wanted: frozenset[str], unwanted: frozenset[str]
) -> bool:
    """Say in short whether a node surely can; where it does not, `why_not` looks closely."""
    if not (candidate.alive and candidate.slots and candidate.verdict != "critical" and candidate.factor > 0):
        return False
    if candidate.draining or candidate.node in barred or candidate.node in unwanted:
        return False
    if not 0 <= candidate.load_age_s <= _GONE_S or demand.memory_bytes > candidate.free_memory_bytes:
        return False
    if demand.policy is PlacementPolicy.PINNED or (demand.qkd_backed and not candidate.qkd_backed):
        return False
    qubits, method = demand.qubits, demand.method
    return any(
        (offer.qubits >= qubits or not offer.qubits)
        and (not method or not offer.methods or method in offer.methods)
        and wanted <= offer.labels
        and unwanted.isdisjoint(offer.labels)
        for offer in candidate.offers
    )


def why_not(demand: Demand, candidate: Candidate, barred: Set[str]) -> str:
    """Say why a node cannot run a job; empty: it can."""
    return (
        _unwanted(demand, candidate, barred)
        or _unfit(candidate)
        or _incapable(demand, candidate)
        or _unlike(demand, candidate)
        or _short(demand, candidate)
    )


def is_for_good(demand: Demand, candidate: Candidate) -> bool:
    """Say whether a node cannot run a job however long it waits: for what it is and not for how it is now."""
    if not candidate.qpus:
        return False  # one that comes up may be able to
    return bool(_incapable(demand, candidate) or _unlike(demand, candidate)) or candidate.node in demand.avoid


def _unwanted(demand: Demand, candidate: Candidate, barred: Set[str]) -> str:
    if demand.policy is PlacementPolicy.PINNED and candidate.node != demand.pinned:
        return f"the job is pinned to {demand.pinned}" if demand.pinned else "the job is pinned to no node"
    if candidate.node in barred:
        return "it refused the job, or was given it before"
    if candidate.node in demand.avoid:
        return "the job avoids it"
    return ""


def _unfit(candidate: Candidate) -> str:
    if not candidate.alive:
        return "it shows no sign of life"
    if candidate.draining:
        return "it is being drained"
    if candidate.factor <= 0.0 or candidate.verdict == "critical":
        return f"it is {candidate.verdict}: {candidate.reason}" if candidate.reason else f"it is {candidate.verdict}"
    if not candidate.qpus:
        return "it has no QPU that is up"
    if candidate.load_age_s > _GONE_S:
        return f"nothing was heard of its load for {candidate.load_age_s:.0f} s"
    if candidate.slots < 1 and candidate.load_age_s >= 0:
        return "no worker of its QPUs is up"
    return ""


def _incapable(demand: Demand, candidate: Candidate) -> str:
    widest = max((qpu.qubits for qpu in candidate.qpus), default=0)
    if demand.qubits and all(0 < qpu.qubits < demand.qubits for qpu in candidate.qpus):
        return f"it has {widest} qubits, the job needs {demand.qubits}"
    if demand.method and all(qpu.methods and demand.method not in qpu.methods for qpu in candidate.qpus):
        return f"no QPU of it knows the method {demand.method}"
    return ""


def _short(demand: Demand, candidate: Candidate) -> str:
    """Look at what a node lacks now and may have later."""
    known = candidate.load_age_s >= 0
    if known and demand.memory_bytes > candidate.free_memory_bytes:
        free, needed = format_bytes(candidate.free_memory_bytes), format_bytes(demand.memory_bytes)
        return f"it has {free} of memory for jobs, this one needs {needed}"
    if demand.qkd_backed and not (candidate.own or candidate.qkd_backed):
        return "the way there is not backed by a QKD key"
    return ""


def _unlike(demand: Demand, candidate: Candidate) -> str:
    """Look at labels; all that a job wants must come together at one QPU that can run it."""
    if not (demand.labels or demand.avoid):
        return ""
    wanted, unwanted = frozenset(demand.labels), frozenset(demand.avoid)
    reason = ""
    for offer in candidate.offers:
        if 0 < offer.qubits < demand.qubits or (demand.method and offer.methods and demand.method not in offer.methods):
            continue
        has = offer.labels
        missing, hated = sorted(wanted - has), sorted(unwanted & has)
        if not missing and not hated:
            return ""
        reason = reason or (f"it lacks {', '.join(missing)}" if missing else f"it is {', '.join(hated)}")
    return reason or "no QPU of it can run the job"
