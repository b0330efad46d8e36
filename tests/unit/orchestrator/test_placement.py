"""Placement: never a node that cannot, the policies as they say, and no running of all to one place."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.orchestrator.placement.able import is_for_good
from qedge.orchestrator.placement.model import Candidate, Demand, LatencyClass, PlacementPolicy, QpuFacts
from qedge.orchestrator.placement.placer import decide
from qedge.orchestrator.placement.policies import POLICIES
from qedge.orchestrator.placement.predict import rate

QPU = QpuFacts("qpu", 64, frozenset({"state_vector", "mps"}), "all", 1e6)
DEMAND = Demand("", 10, "", 1000, 0.01, 10**6, 1000, LatencyClass.INTERACTIVE, PlacementPolicy.BALANCED)
NOBODY: frozenset[str] = frozenset()


def node(name: str, **facts: object) -> Candidate:
    """Make a node that is there, idle and well, but for what is said."""
    usual: dict[str, object] = {"qpus": (QPU,), "free_memory_bytes": 10**9, "load_age_s": 0.1, "rtt_s": 0.004}
    return Candidate(name, **{**usual, **facts})  # type: ignore[arg-type]


def chosen(demand: Demand, *candidates: Candidate, seed: int = 1, barred: frozenset[str] = NOBODY) -> str:
    """Return the name of the node that is chosen."""
    return decide(demand, candidates, barred, 1e6, random.Random(seed).random)[0].node


def reason(demand: Demand, candidate: Candidate, barred: frozenset[str] = NOBODY) -> str:
    """Return why the only node there is cannot run a job."""
    return decide(demand, [candidate], barred, 1e6, random.Random(1).random)[0].considered[0].why_not


@pytest.mark.parametrize(
    ("change", "facts", "why"),
    [
        ({"qubits": 65}, {}, "64 qubits"),
        ({"method": "density_matrix"}, {}, "method"),
        ({"memory_bytes": 2 * 10**9}, {}, "memory"),
        ({"labels": ("roof",)}, {"labels": frozenset({"cellar"})}, "lacks roof"),
        ({"labels": ("hardware",)}, {}, "lacks hardware"),
        ({"labels": ("qpu:other",)}, {}, "lacks qpu:other"),
        ({"avoid": ("cellar",)}, {"labels": frozenset({"cellar"})}, "is cellar"),
        ({"avoid": ("b",)}, {}, "avoids it"),
        ({"avoid": ("simulated",)}, {}, "is simulated"),
        ({"qkd_backed": True}, {}, "QKD"),
        ({"deadline_s": 0.5}, {"backlog_s": (0.0, 1.0, 1.0)}, "too late"),
        ({"policy": PlacementPolicy.PINNED, "pinned": "c"}, {}, "pinned to c"),
        ({}, {"alive": False}, "no sign of life"),
        ({}, {"draining": True}, "drained"),
        ({}, {"verdict": "critical", "reason": "disk"}, "critical: disk"),
        ({}, {"factor": 0.0, "verdict": "degraded"}, "degraded"),
        ({}, {"qpus": ()}, "no QPU"),
        ({}, {"slots": 0}, "no worker"),
        ({}, {"load_age_s": 100.0}, "100 s"),
    ],
)
def test_a_node_that_cannot_is_not_chosen_and_the_table_says_why(
    change: dict[str, object], facts: dict[str, object], why: str
) -> None:
    demand = replace(DEMAND, **change)  # type: ignore[arg-type]
    assert why in reason(demand, node("b", **facts))
    assert chosen(demand, node("b", **facts)) == ""


def test_a_barred_node_is_not_chosen() -> None:
    assert chosen(DEMAND, node("b"), node("c"), barred=frozenset("b")) == "c"
    assert chosen(DEMAND, node("b"), barred=frozenset("b")) == ""


def test_all_that_a_job_wants_must_come_together_at_one_qpu() -> None:
    wide = QpuFacts("wide", 100, frozenset({"mps"}), "grid", 0.0)
    real = QpuFacts("real", 5, frozenset(), "line", 0.0, simulated=False)
    both = node("b", qpus=(wide, real))
    assert chosen(replace(DEMAND, labels=("hardware",), qubits=5), both) == "b"
    assert reason(replace(DEMAND, labels=("hardware",), qubits=6), both) == "it lacks hardware"
    assert reason(replace(DEMAND, labels=("hardware", "connectivity:grid"), qubits=2), both) != ""


def test_what_is_not_known_of_a_node_does_not_keep_a_job_from_it() -> None:
    stranger = node("b", qpus=(QpuFacts("qpu"),), load_age_s=-1.0, free_memory_bytes=0)
    assert chosen(replace(DEMAND, qubits=1000, method="mps"), stranger) == "b"
    assert chosen(DEMAND, stranger, node("c", backlog_s=(0.0, 0.01, 0.01))) == "c"


def test_what_no_wait_changes_is_told_from_what_may_pass() -> None:
    assert is_for_good(replace(DEMAND, qubits=65), node("b"))
    assert is_for_good(replace(DEMAND, labels=("roof",)), node("b"))
    assert not is_for_good(DEMAND, node("b", alive=False, draining=True))
    assert not is_for_good(replace(DEMAND, qkd_backed=True), node("b"))
    assert not is_for_good(replace(DEMAND, qubits=65), node("b", qpus=()))


def test_fastest_goes_where_the_result_is_here_first_by_the_measured_speed() -> None:
    slow = replace(QPU, speed=1e5)
    demand = replace(DEMAND, policy=PlacementPolicy.FASTEST, run_time_s=1.0)
    assert chosen(demand, node("own", own=True, qpus=(slow,)), node("b")) == "b"
    assert chosen(demand, node("own", own=True), node("b")) == "own"
    assert chosen(demand, node("own", own=True, backlog_s=(0.0, 2.0, 2.0)), node("b")) == "b"


def test_the_way_back_of_a_large_result_counts() -> None:
    demand = replace(DEMAND, policy=PlacementPolicy.FASTEST, result_bytes=100 * 10**6)
    assert chosen(demand, node("own", own=True, backlog_s=(0.0, 1.0, 1.0)), node("b")) == "own"


def test_a_job_goes_to_its_data() -> None:
    demand = replace(DEMAND, policy=PlacementPolicy.FASTEST, data_node="c", result_bytes=10**6)
    assert chosen(demand, node("b"), node("c"), node("d")) == "c"


def test_local_first_stays_while_it_would_start_soon() -> None:
    demand = replace(DEMAND, policy=PlacementPolicy.LOCAL_FIRST)
    assert chosen(demand, node("own", own=True, backlog_s=(0.0, 0.2, 0.2)), node("b")) == "own"
    assert chosen(demand, node("own", own=True, backlog_s=(0.0, 2.0, 2.0)), node("b")) == "b"


def test_pack_fills_the_busiest_node_that_has_room_and_leaves_the_others_idle() -> None:
    demand = replace(DEMAND, policy=PlacementPolicy.PACK)
    idle, busy = node("a", slots=4, free_slots=4), node("b", slots=4, free_slots=1)
    full = node("c", slots=4, free_slots=0, backlog_s=(1.0, 1.0, 1.0))
    assert chosen(demand, idle, busy, full) == "b"
    busy.placed = 1
    assert chosen(demand, idle, busy, full) == "a"
    assert {chosen(demand, node("x"), node("y"), node("z"), seed=seed) for seed in range(9)} == {"x"}


def test_a_pinned_job_runs_nowhere_else() -> None:
    demand = replace(DEMAND, policy=PlacementPolicy.PINNED, pinned="c")
    assert chosen(demand, node("b"), node("c", backlog_s=(9.0, 9.0, 9.0))) == "c"
    assert chosen(demand, node("b"), node("c", alive=False)) == ""


def test_a_node_that_is_not_well_gets_less() -> None:
    weak = node("b", factor=0.5, verdict="degraded")
    drawn = Counter(chosen(DEMAND, weak, node("c"), seed=seed) for seed in range(50))
    assert drawn["b"] == 0
    assert chosen(DEMAND, weak, node("c", backlog_s=(0.0, 1.0, 1.0))) == "b"


def test_old_facts_count_less_than_fresh_ones() -> None:
    old = node("b", load_age_s=20.0, backlog_s=(0.0, 0.1, 0.1))
    assert chosen(DEMAND, old, node("c", backlog_s=(0.0, 0.5, 0.5))) == "c"


def test_equal_nodes_share_and_jobs_just_placed_count() -> None:
    drawn = Counter(chosen(DEMAND, *(node(f"n{k}") for k in range(8)), seed=seed) for seed in range(400))
    assert len(drawn) == 8
    assert max(drawn.values()) < 100
    assert chosen(DEMAND, node("b", placed=10, placed_s=0.1), node("c")) == "c"


def test_only_what_goes_before_a_job_is_its_backlog() -> None:
    batch_behind = node("b", backlog_s=(0.0, 0.0, 60.0), queued=(0, 0, 30))
    assert chosen(DEMAND, batch_behind, node("c", backlog_s=(0.0, 0.1, 0.1))) == "b"
    assert chosen(replace(DEMAND, latency_class=LatencyClass.BATCH), batch_behind, node("c")) == "c"


CANDIDATES = st.lists(
    st.builds(
        lambda name, own, alive, qubits, backlog, free, factor, age, draining, labels: node(
            f"n{name}",
            own=own,
            alive=alive,
            qpus=(replace(QPU, qubits=qubits),) if qubits >= 0 else (),
            backlog_s=(backlog / 4, backlog / 2, backlog),
            free_slots=free,
            factor=factor,
            load_age_s=age,
            draining=draining,
            labels=labels,
        ),
        st.integers(0, 10**6),
        st.booleans(),
        st.booleans(),
        st.integers(-1, 40),
        st.floats(0, 100),
        st.integers(0, 1),
        st.floats(0, 1),
        st.floats(-1, 90),
        st.booleans(),
        st.frozensets(st.sampled_from(["x", "y", "z"])),
    ),
    max_size=12,
    unique_by=lambda each: each.node,
)
DEMANDS = st.builds(
    lambda qubits, policy, latency, labels, deadline, run: replace(
        DEMAND,
        qubits=qubits,
        policy=policy,
        latency_class=latency,
        labels=tuple(labels),
        deadline_s=deadline,
        run_time_s=run,
        pinned="n1",
    ),
    st.integers(0, 40),
    st.sampled_from(PlacementPolicy),
    st.sampled_from(LatencyClass),
    st.frozensets(st.sampled_from(["x", "y"])),
    st.sampled_from([0.0, 0.5, 20.0]),
    st.floats(0, 10),
)


@settings(max_examples=150, deadline=None)
@given(DEMANDS, CANDIDATES, st.integers(0, 99))
def test_whatever_is_known_the_chosen_node_can_run_the_job_and_nobody_means_nobody(
    demand: Demand, candidates: list[Candidate], seed: int
) -> None:
    placement, rated = decide(demand, candidates, NOBODY, 1e6, random.Random(seed).random)
    table = {each.node: each for each in placement.considered}
    assert len(table) == len(candidates)
    if not placement.node:
        assert rated is None
        assert all(each.why_not for each in table.values())
        return
    found = next(each for each in candidates if each.node == placement.node)
    assert not table[found.node].why_not
    assert found.alive
    assert not found.draining
    assert found.factor > 0
    assert any(qpu.qubits == 0 or qpu.qubits >= demand.qubits for qpu in found.qpus)
    assert set(demand.labels) <= found.labels
    assert demand.policy is not PlacementPolicy.PINNED or found.node == demand.pinned
    assert not demand.deadline_s or table[found.node].predicted_s <= demand.deadline_s


@settings(max_examples=100, deadline=None)
@given(DEMANDS, st.floats(0, 50), st.floats(0.01, 50), st.floats(0.05, 1))
def test_more_load_or_less_health_never_makes_a_score_better(
    demand: Demand, backlog_s: float, more_s: float, factor: float
) -> None:
    if demand.policy is PlacementPolicy.PACK:
        return  # it prefers the busy, that is what it is for
    light = node("a", backlog_s=(backlog_s,) * 3)
    loaded = node("b", backlog_s=(backlog_s + more_s,) * 3)
    weak = node("c", backlog_s=(backlog_s,) * 3, factor=factor)
    one, other, third = POLICIES[demand.policy](demand, rate(demand, [light, loaded, weak], 1e6))
    assert one <= other
    assert one <= third
