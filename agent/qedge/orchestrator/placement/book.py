"""What this node knows of the others: capabilities from births, loads as told, and what it gave them since. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from qedge.orchestrator.placement.model import Candidate, QpuFacts
from qedge.wire.load import LoadView, NodeLoad
from qedge.wire.mesh import Capability

SETTLED_NS: Final = 40_000_000
"""A load that comes this long after a job was given away was made with that job in it."""
FORGOTTEN_NS: Final = 5_000_000_000
"""A job that was given away counts no longer than this, whatever is heard or not."""
_OWN_NS: Final = 50_000_000
"""This node's own load shows a job as soon as it is accepted."""
_RTT_WEIGHT: Final = 0.2
_USUAL_RTT_S: Final = 0.004
_MAX_METHODS: Final = 32


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What membership and sessions tell of a node."""

    node: str
    own: bool
    alive: bool
    epoch: int
    qpus: tuple[QpuFacts, ...]
    labels: frozenset[str] = frozenset()
    qkd_backed: bool = False


@dataclass(slots=True)
class _Entry:
    facts: NodeFacts
    candidate: Candidate
    load: NodeLoad | None = None
    heard_ns: int = 0
    rtt_s: float = _USUAL_RTT_S
    placed: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Jobs that were given to it: expected run time and when."""


def qpus_of(capabilities: Iterable[Capability]) -> tuple[QpuFacts, ...]:
    """Read the QPUs off what a birth says; a fact that is missing or not of its kind is not known."""
    found = []
    for each in capabilities:
        if each.kind != "qpu":
            continue
        methods = each.facts.get("methods")
        found.append(
            QpuFacts(
                name=each.name,
                qubits=int(_number(each.facts, "num_qubits")),
                methods=frozenset(methods.split(",")[:_MAX_METHODS]) if isinstance(methods, str) else frozenset(),
                connectivity=str(each.facts.get("connectivity", "")),
                speed=_number(each.facts, "assessed_clops"),
                simulated=each.simulated,
            )
        )
    return tuple(found)


class LoadBook:
    """Fills `Facts`. `own_load` tells this node's own load at any time; all other inputs come by methods."""

    def __init__(self, own_load: Callable[[], NodeLoad]) -> None:
        self._own_load = own_load
        self._entries: dict[str, _Entry] = {}
        self._jobs: dict[str, str] = {}
        self._speed = 0.0

    def know(self, nodes: Iterable[NodeFacts]) -> None:
        """Take what is known of all nodes now; those that are not named are forgotten."""
        known = {facts.node: facts for facts in nodes}
        for gone in [name for name in self._entries if name not in known]:
            for job_id in self._entries.pop(gone).placed:
                self._jobs.pop(job_id, None)
        for name, facts in known.items():
            entry = self._entries.get(name)
            if entry is None:
                self._entries[name] = _Entry(facts, _candidate(facts, None, _USUAL_RTT_S))
            elif entry.facts != facts:
                if facts.epoch > entry.facts.epoch:
                    entry.load = None  # an earlier run said it
                entry.facts = facts
                entry.candidate = _candidate(facts, entry.load, entry.rtt_s)
            if facts.own:
                self._speed = max((qpu.speed for qpu in facts.qpus), default=0.0)

    def take(self, node: str, load: NodeLoad, now_ns: int, rtt_s: float | None = None) -> bool:
        """Take a load that a node told of itself; False: it is older than what is known, or of no known node."""
        entry = self._entries.get(node)
        if entry is None or entry.facts.own:
            return False
        if entry.load is not None and (load.epoch, load.serial) <= (entry.load.epoch, entry.load.serial):
            return False
        entry.load, entry.heard_ns = load, now_ns
        if rtt_s is not None:
            entry.rtt_s += _RTT_WEIGHT * (rtt_s - entry.rtt_s)
        self._drop(entry, [job_id for job_id, (_, at_ns) in entry.placed.items() if now_ns - at_ns >= SETTLED_NS])
        entry.candidate = _candidate(entry.facts, load, entry.rtt_s)
        return True

    def placed(self, node: str, job_id: str, run_s: float, now_ns: int) -> None:
        """See `Facts.placed`."""
        entry = self._entries.get(node)
        if entry is not None and job_id:
            self.ended(job_id)
            entry.placed[job_id] = (run_s, now_ns)
            self._jobs[job_id] = node

    def ended(self, job_id: str) -> None:
        """Count a job that ended, or was given to somebody else, no longer."""
        entry = self._entries.get(self._jobs.pop(job_id, ""))
        if entry is not None:
            entry.placed.pop(job_id, None)

    def speed(self) -> float:
        """See `Facts.speed`."""
        return self._speed

    def candidates(self, now_ns: int) -> Sequence[Candidate]:
        """See `Facts.candidates`; what is returned is only good until the next call."""
        found: list[Candidate] = []
        for entry in self._entries.values():
            if entry.facts.own:
                entry.candidate = _candidate(entry.facts, self._own_load(), 0.0)
            candidate = entry.candidate
            if entry.load is not None:
                candidate.load_age_s = (now_ns - entry.heard_ns) / 1e9
            if entry.placed or candidate.placed:
                self._count_placed(entry, candidate, now_ns)
            found.append(candidate)
        return found

    def load_view(self, node: str, now_ns: int) -> LoadView | None:
        """Describe the load of a node as it is known here."""
        entry = self._entries.get(node)
        load = self._own_load() if entry is not None and entry.facts.own else entry.load if entry is not None else None
        if entry is None or load is None:
            return None
        age_s = 0.0 if entry.facts.own else (now_ns - entry.heard_ns) / 1e9
        return LoadView(
            load.slots,
            load.free_slots,
            load.queued,
            load.backlog_s,
            load.factor,
            load.verdict,
            load.reason,
            load.draining,
            round(age_s, 2),
        )

    def _count_placed(self, entry: _Entry, candidate: Candidate, now_ns: int) -> None:
        limit_ns = now_ns - (_OWN_NS if entry.facts.own else FORGOTTEN_NS)
        self._drop(entry, [job_id for job_id, (_, at_ns) in entry.placed.items() if at_ns < limit_ns])
        candidate.placed = len(entry.placed)
        candidate.placed_s = sum(run_s for run_s, _ in entry.placed.values())

    def _drop(self, entry: _Entry, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            entry.placed.pop(job_id, None)
            self._jobs.pop(job_id, None)


def _candidate(facts: NodeFacts, load: NodeLoad | None, rtt_s: float) -> Candidate:
    made = Candidate(
        facts.node, facts.own, facts.alive, facts.qpus, facts.labels, rtt_s=rtt_s, qkd_backed=facts.qkd_backed
    )
    if load is not None:
        made.slots, made.free_slots, made.queued, made.backlog_s = (
            load.slots,
            load.free_slots,
            load.queued,
            load.backlog_s,
        )
        made.free_memory_bytes, made.factor, made.verdict = load.free_memory_bytes, load.factor, load.verdict
        made.reason, made.draining, made.load_age_s = load.reason, load.draining, 0.0
    return made


def _number(facts: Mapping[str, str | int | float | bool], name: str) -> float:
    value = facts.get(name)
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e15 else 0.0
