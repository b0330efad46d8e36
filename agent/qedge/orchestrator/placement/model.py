"""Nouns of placement: what a job needs, what is known of a node, and what came of looking at both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from qedge.wire.jobs import JobEstimate, JobSubmission, LatencyClass, PlacementPolicy

__all__ = [
    "CLASSES",
    "Candidate",
    "Considered",
    "Demand",
    "LatencyClass",
    "Offer",
    "Placement",
    "PlacementPolicy",
    "Policy",
    "QpuFacts",
    "Rated",
    "Uniform",
]

CLASSES: Final = (LatencyClass.CRITICAL, LatencyClass.INTERACTIVE, LatencyClass.BATCH)
"""The latency classes, most urgent first; figures by class stand in this order."""

Uniform = Callable[[], float]
"""Draws from [0, 1)."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a job needs, made from its submission and estimate.

    `method` empty: any; `run_time_s` by the estimate of the node that accepted it, 0 where it made none; `memory_bytes`
    and `result_bytes` likewise. `pinned` names the one node of the policy `pinned`. All `labels` must be there, and
    nothing of `avoid`, names of nodes included. `data_node` has what the job reads; `deadline_s` from now, 0: none.
    """

    job_id: str
    qubits: int
    method: str
    shots: int
    run_time_s: float
    memory_bytes: int
    result_bytes: int
    latency_class: LatencyClass
    policy: PlacementPolicy
    pinned: str = ""
    labels: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    qkd_backed: bool = False
    data_node: str = ""
    deadline_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Considered:
    """A node that was looked at. `why_not` empty: it can run the job; the lower its score the better."""

    node: str
    score: float
    predicted_s: float
    why_not: str


@dataclass(frozen=True, slots=True)
class Placement:
    """What was decided; `node` empty: nobody can run the job."""

    node: str
    score: float
    considered: tuple[Considered, ...]


@dataclass(frozen=True, slots=True)
class QpuFacts:
    """One QPU that is up. `qubits` 0, `methods` empty, `speed` 0: not known.

    `speed` is layers of parametrised circuits a second, as its node measured them; `connectivity` as its driver says.
    """

    name: str
    qubits: int = 0
    methods: frozenset[str] = frozenset()
    connectivity: str = ""
    speed: float = 0.0
    simulated: bool = True

    @property
    def labels(self) -> frozenset[str]:
        """Return what jobs may ask for: `qpu:NAME`, `hardware` or `simulated`, and `connectivity:KIND`."""
        found = {f"qpu:{self.name}", "simulated" if self.simulated else "hardware"}
        if self.connectivity:
            found.add(f"connectivity:{self.connectivity}")
        return frozenset(found)


class Offer(NamedTuple):
    """What one QPU offers, ready to be compared: see `QpuFacts`; `labels` are those of its node and its own."""

    qubits: int
    methods: frozenset[str]
    labels: frozenset[str]


@dataclass(slots=True)
class Candidate:
    """What is known of a node that may run a job; figures by class in the order of `CLASSES`.

    Not frozen: whoever keeps it brings its figures up to date before each decision, which is cheaper than a new one.

    `load_age_s` counts from when the load was heard of, negative: nothing was ever heard. `backlog_s` is the predicted
    time until a further job of the class would start there, `placed_s` the predicted run time of jobs given to it that
    its load does not show yet, and `placed` their number. `factor` is the share of its usual work that it wants.
    `rtt_s` is the way there and back, `qkd_backed`: sealed with the help of a QKD key.
    """

    node: str
    own: bool = False
    alive: bool = True
    qpus: tuple[QpuFacts, ...] = ()
    labels: frozenset[str] = frozenset()
    slots: int = 1
    free_slots: int = 1
    queued: tuple[int, ...] = (0, 0, 0)
    backlog_s: tuple[float, ...] = (0.0, 0.0, 0.0)
    free_memory_bytes: int = 0
    factor: float = 1.0
    verdict: str = "ok"
    reason: str = ""
    draining: bool = False
    load_age_s: float = -1.0
    placed_s: float = 0.0
    placed: int = 0
    rtt_s: float = 0.0
    qkd_backed: bool = False
    offers: tuple[Offer, ...] = field(init=False)
    fastest: float = field(init=False)
    """Speed of its fastest QPU; 0: not known."""

    def __post_init__(self) -> None:
        """Make what every decision compares; `qpus` and `labels` do not change later."""
        self.offers = tuple(Offer(qpu.qubits, qpu.methods, self.labels | qpu.labels) for qpu in self.qpus)
        self.fastest = max((qpu.speed for qpu in self.qpus), default=0.0)


class Rated(NamedTuple):
    """A candidate that can run a job, with what is predicted for it, in seconds.

    `wait_s` is the time until the run begins, the way there included; `predicted_s` the time until the result is here.
    `busy`: how much of its slots is taken and waited for, 0 … 1.
    """

    candidate: Candidate
    wait_s: float
    run_s: float
    predicted_s: float
    busy: float


Policy = Callable[[Demand, Sequence[Rated]], list[float]]
"""Gives each rated candidate a score, the lower the better."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A job that is to be placed: what was asked, and what it will cost where that is known."""

    job_id: str
    submission: JobSubmission
    estimate: JobEstimate | None = None
