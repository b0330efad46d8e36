"""Circuit jobs as clients submit them and nodes report them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from qedge.wire.load import PlacementView
from qedge.wire.problem import Problem
from qedge.wire.receipts import Receipt
from qedge.wire.tasks import QaoaTask, QecTask, Task, TaskResult
from qedge.wire.trust import Utc

MAX_PARTS: Final = 64
MAX_HOLDERS: Final = 4
Epoch = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e30)]
"""A finite time. Forecasts can be very long."""

Holders = Annotated[
    tuple[Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,36}\Z")], ...], msgspec.Meta(max_length=MAX_HOLDERS)
]


class JobState(StrEnum):
    """`QUEUED` means accepted: the job is in the node's database. The last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class LatencyClass(StrEnum):
    """How urgent a job is: `critical` before all others, `interactive`: somebody waits, `batch`: when there is time."""

    CRITICAL = "critical"
    INTERACTIVE = "interactive"
    BATCH = "batch"


class PlacementPolicy(StrEnum):
    """Which of the nodes that can run a job does.

    `FASTEST`: where it ends first; `BALANCED`: the same, but rather where less is going on; `LOCAL_FIRST`: here unless
    it would wait; `PACK`: where most is going on already and it need not wait, so that others stay idle; `PINNED`: the
    named one and no other.
    """

    FASTEST = "fastest"
    BALANCED = "balanced"
    LOCAL_FIRST = "local-first"
    PACK = "pack"
    PINNED = "pinned"


Label = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]


class JobSubmission(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="type",
    tag="job-submission/1",
):
    """A request to run one program.

    `program` is OpenQASM text, or `template` the hash of a program that the node keeps; `task` is what
    to do with it (none: count outcomes); `shots` how often it runs; `seed` makes a simulator repeat itself (chosen by
    the node where absent, and reported); `qpu` names a driver instance (empty: any); `deadline_s` is counted from
    acceptance; `parameters` are numbers for the inputs of the program; `measure_all` measures all qubits where a
    program measures none. `method`, `max_bond` and `min_fidelity` go to simulators: how to run (empty: as fits best),
    the largest bond and the least fidelity of matrix product states; `fresh` runs it even where the node has the
    answer; `parts` cuts it into at most so many pieces that run wherever there is room, and merges their results
    (0: one piece). `client_key` makes repeated submissions one job; `dry_run` only parses and estimates; `node` names
    the node that runs it (empty: the one that accepted it, `any`: whichever can). `latency_class` says how urgent it
    is. Where any node may run it, `placement` says how one is chosen (none: as the node is configured; with an empty
    `node` it means `any`), `labels` what that node must have, `avoid` labels and names that it must not have;
    `qkd_backed`: the way there must be sealed with the help of a QKD key. `once` never begins it a second time: it
    waits for a runner that is gone, and fails where that does not come back.
    """

    program: str = ""
    shots: int = 1000
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] | None = None
    qpu: Annotated[str, msgspec.Meta(max_length=36)] = ""
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] = 4
    client_key: Annotated[str, msgspec.Meta(max_length=64)] = ""
    tags: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=64)], ...], msgspec.Meta(max_length=16)] = ()
    dry_run: bool = False
    node: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{0,36}\Z")] = ""
    parameters: Annotated[dict[Annotated[str, msgspec.Meta(max_length=64)], float], msgspec.Meta(max_length=10_000)] = (
        msgspec.field(default_factory=dict)
    )
    measure_all: bool = False
    task: Task | None = None
    template: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    method: Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{0,32}\Z")] = ""
    max_bond: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    min_fidelity: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    fresh: bool = False
    parts: Annotated[int, msgspec.Meta(ge=0, le=MAX_PARTS)] = 0
    latency_class: LatencyClass = LatencyClass.INTERACTIVE
    placement: PlacementPolicy | None = None
    labels: Annotated[tuple[Label, ...], msgspec.Meta(max_length=16)] = ()
    avoid: Annotated[tuple[Label, ...], msgspec.Meta(max_length=16)] = ()
    qkd_backed: bool = False
    once: bool = False

    def __post_init__(self) -> None:
        if not (self.program or self.template or isinstance(self.task, (QaoaTask, QecTask))):
            raise ValueError("a program or a template is missing")

    @property
    def is_batch(self) -> bool:
        """Whether nobody waits for it."""
        return self.latency_class is LatencyClass.BATCH


class Register(msgspec.Struct, frozen=True):
    """A classical register: bits `offset … offset+size−1` of the result."""

    name: str
    size: int
    offset: int


class JobEstimate(msgspec.Struct, frozen=True, tag_field="type", tag="job-estimate/1"):
    """What the node predicts: memory and result in bytes, time in seconds, operations after expansion."""

    qubits: int
    clbits: int
    operations: int
    shots: int
    memory_bytes: int
    time_s: Seconds
    result_bytes: int
    method: str
    placement: PlacementView | None = None
    """Where the job would go; only in the answer to a dry run."""


class PartResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one piece of a job that was cut ran: as job `job`, on `qpu` of `node` (empty: the node that was asked).

    `shots` and `seed` are its own; `run_s` is the time that it took its QPU.
    """

    job: str
    node: str
    qpu: str
    shots: int
    seed: int
    run_s: float
    attempts: int


class JobResult(msgspec.Struct, frozen=True, tag_field="type", tag="job-result/1"):
    """`counts`: bit string → how often. A string has one character per classical bit, `bit_order` says which is where.

    `timings_s`: seconds per stage (`parse`, `queue`, `run`, …); `metadata`: `method`, `driver`, `simulated`, …;
    `data`: what the kind of task gives beside counts, or instead of them; `parts`: the pieces of a job that was cut,
    in their order.
    """

    counts: dict[str, int]
    shots: int
    seed: int
    registers: tuple[Register, ...]
    timings_s: dict[str, float]
    metadata: dict[str, str | int | float | bool]
    bit_order: Literal["bit 0 rightmost"] = "bit 0 rightmost"
    data: TaskResult | None = None
    parts: tuple[PartResult, ...] = ()


class JobView(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="job/1"):
    """A job as its node knows it. Times are nanoseconds since 1970 UTC, 0 where not yet reached.

    Other nodes write down what stands here, and reckon with it: a number is one that a database holds, or it is none.
    """

    id: str
    state: JobState
    shots: int
    submitted_utc_ns: Utc
    client: str
    qpu: str = ""
    started_utc_ns: Utc = 0
    ended_utc_ns: Utc = 0
    queue_position: Count = 0
    attempts: Count = 0
    priority: int = 4
    tags: tuple[str, ...] = ()
    estimate: JobEstimate | None = None
    result: JobResult | None = None
    error: Problem | None = None
    node: str = ""
    """Node that runs or ran it; empty: the one that answers. `/parts`: it was cut, see `result.parts`."""
    parts: int = 0
    parts_done: int = 0
    epoch: int = 0
    """Number of the lease under which it is run, or ended; grows whenever it is given away anew."""
    replicated: bool | None = None
    """Whether another node holds a copy that outlives this one; absent for jobs that are bound to a node."""
    receipt: Receipt | None = None
    """What its runner signed for the result, where that was another node; a second later than the result."""


class JobOffer(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="job-offer/1"):
    """A node asks another to run a job that it has accepted. The same `id` again is the same job.

    Who takes it holds it under `epoch` for `lease_ms` from receipt, and longer as long as the lease is renewed.
    `holders` are the nodes that hold a record of the job, the one that accepted it first: any of them may come to own
    it. `patient`: the owner waits for this runner, however long it takes.
    """

    id: Annotated[str, msgspec.Meta(max_length=36)]
    submission: JobSubmission
    epoch: Epoch = 0
    lease_ms: Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] = 0
    holders: Holders = ()
    patient: bool = False


class JobAsk(msgspec.Struct, frozen=True, tag_field="type", tag="job-ask/1"):
    """A node asks how jobs are that it gave away; `ids` are its own."""

    ids: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=36)], ...], msgspec.Meta(max_length=256)]


class JobNews(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="job-news/1"):
    """How the job `id` of the node that gave it away is, as its runner knows it; `job` none: the runner has no such.

    What is said under another `epoch` than the owner's has no effect.
    """

    id: Annotated[str, msgspec.Meta(max_length=36)]
    job: JobView | None = None
    epoch: Epoch = 0


class JobTidings(msgspec.Struct, frozen=True, tag_field="type", tag="job-tidings/1"):
    """Answers to `JobAsk`; jobs that ended come with their results, and some may be left for the next question."""

    news: tuple[JobNews, ...]


class JobStop(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="job-stop/1"):
    """The node that gave a job away does not want it any more, unless it gave it anew after `epoch` (0: at all)."""

    id: Annotated[str, msgspec.Meta(max_length=36)]
    epoch: Epoch = 0


class JobHeard(msgspec.Struct, frozen=True, tag_field="type", tag="job-heard/1"):
    """News or a stop was taken."""


class JobList(msgspec.Struct, frozen=True, tag_field="type", tag="job-list/1"):
    """Jobs, newest first, without their results."""

    jobs: tuple[JobView, ...]


class TemplateText(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="template-text/1"):
    """A program to be kept."""

    program: str


class TemplateView(msgspec.Struct, frozen=True, tag_field="type", tag="template/1"):
    """A program that the node keeps under the SHA-256 of its text."""

    template: str
    program: str


class JobBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="job-batch/1"):
    """Jobs that are submitted together; each is accepted or refused by itself."""

    jobs: Annotated[tuple[JobSubmission, ...], msgspec.Meta(min_length=1, max_length=256)]


class BatchEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one job of a batch: accepted as `job`, or refused with `error`."""

    job: JobView | None = None
    error: Problem | None = None


class BatchView(msgspec.Struct, frozen=True, tag_field="type", tag="batch/1"):
    """The entries of a batch in its order."""

    entries: tuple[BatchEntry, ...]
