"""Loads of nodes: the newest counts, what was given away counts until it shows, and telling is bounded."""

from __future__ import annotations

import msgspec

from qedge.orchestrator.placement.book import FORGOTTEN_NS, SETTLED_NS, LoadBook, NodeFacts, qpus_of
from qedge.orchestrator.placement.model import Candidate, QpuFacts
from qedge.orchestrator.placement.partners import (
    INTEREST_NS,
    KEEP_ALIVE_NS,
    MAX_LISTENERS,
    SOON_NS,
    TOLD_PER_S,
    Telling,
    is_news,
    partners_of,
)
from qedge.wire.load import NodeLoad
from qedge.wire.mesh import Capability

SECOND = 10**9
QPU = QpuFacts("qpu", 20, speed=1e5)


def load(serial: int = 1, epoch: int = 1, **fields: object) -> NodeLoad:
    """Make a load of a node with one slot."""
    return NodeLoad(epoch, serial, **{"slots": 1, "free_slots": 1, **fields})  # type: ignore[arg-type]


def book(*names: str) -> LoadBook:
    """Make a book of node `own` that knows some others."""
    made = LoadBook(lambda: load(free_slots=0))
    made.know([NodeFacts("own", True, True, 1, (QPU,)), *(NodeFacts(name, False, True, 1, (QPU,)) for name in names)])
    return made


def find(made: LoadBook, name: str, now_ns: int = 0) -> Candidate:
    """Look a node up."""
    return next(each for each in made.candidates(now_ns) if each.node == name)


def test_a_node_whose_load_was_never_heard_is_known_without_one() -> None:
    assert find(book("b"), "b").load_age_s < 0
    assert book("b").load_view("b", 0) is None


def test_the_newest_load_counts_whatever_comes_later() -> None:
    made = book("b")
    assert made.take("b", load(5, backlog_s=(0.0, 1.0, 1.0)), 0)
    assert not made.take("b", load(4), SECOND)
    assert made.take("b", load(1, epoch=2, backlog_s=(0.0, 2.0, 2.0)), SECOND)
    assert find(made, "b", 3 * SECOND).backlog_s == (0.0, 2.0, 2.0)
    assert find(made, "b", 3 * SECOND).load_age_s == 2.0


def test_nobody_speaks_for_strangers_or_for_this_node() -> None:
    made = book("b")
    assert not made.take("c", load(), 0)
    assert not made.take("own", load(99), 0)
    assert find(made, "own").free_slots == 0


def test_a_job_counts_at_its_node_until_that_node_shows_it_or_it_ends() -> None:
    made = book("b")
    made.placed("b", "1", 0.5, 0)
    made.placed("b", "2", 0.25, SETTLED_NS)
    assert (find(made, "b", SETTLED_NS).placed, find(made, "b", SETTLED_NS).placed_s) == (2, 0.75)
    made.take("b", load(), SETTLED_NS + 1)
    assert find(made, "b", SETTLED_NS + 1).placed_s == 0.25
    made.ended("2")
    assert find(made, "b", SETTLED_NS + 1).placed == 0


def test_a_job_that_is_given_to_another_node_counts_there_alone() -> None:
    made = book("b", "c")
    made.placed("b", "1", 0.5, 0)
    made.placed("c", "1", 0.5, 0)
    assert (find(made, "b").placed, find(made, "c").placed) == (0, 1)


def test_a_job_of_which_nothing_is_heard_is_forgotten_after_a_while() -> None:
    made = book("b")
    made.placed("b", "1", 0.5, 0)
    assert find(made, "b", FORGOTTEN_NS + 1).placed == 0


def test_a_node_that_started_anew_has_to_tell_its_load_anew() -> None:
    made = book("b")
    made.take("b", load(9, backlog_s=(0.0, 9.0, 9.0)), 0)
    made.know([NodeFacts("own", True, True, 1, (QPU,)), NodeFacts("b", False, True, 2, (QPU,))])
    assert find(made, "b").load_age_s < 0
    made.know([NodeFacts("own", True, True, 1, (QPU,))])
    assert [each.node for each in made.candidates(0)] == ["own"]


def test_qpus_are_read_off_births_and_nonsense_is_not_known() -> None:
    facts: dict[str, str | int | float | bool] = {"num_qubits": 20, "methods": "mps,state_vector", "assessed_clops": 5}
    odd: dict[str, str | int | float | bool] = {"num_qubits": "many", "methods": 7, "assessed_clops": -1}
    found = qpus_of(
        [
            Capability("one", "qpu", "d", "1", True, facts),
            Capability("odd", "qpu", "d", "1", False, odd),
            Capability("rng", "qrng", "d", "1", True),
        ]
    )
    assert found[0] == QpuFacts("one", 20, frozenset({"mps", "state_vector"}), "", 5.0, True)
    assert found[1] == QpuFacts("odd", 0, frozenset(), "", 0.0, False)
    assert len(found) == 2


def test_a_load_crosses_as_it_is_and_one_that_cannot_be_is_refused() -> None:
    said = load(3, queued=(1, 2, 3), backlog_s=(0.0, 0.5, 9.0), factor=0.5, verdict="degraded", reason="hot")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(said), type=NodeLoad) == said
    for nonsense in (load(factor=2.0), load(backlog_s=(0.0, -1.0, 0.0)), load(queued=(1, 2)), load(slots=-1)):
        data = msgspec.msgpack.encode(nonsense)
        try:
            msgspec.msgpack.decode(data, type=NodeLoad)
        except msgspec.ValidationError:
            continue
        raise AssertionError(nonsense)


def test_a_small_fleet_is_partners_all_round_and_a_large_one_has_few_that_mostly_choose_each_other() -> None:
    names = [f"n{number}" for number in range(300)]
    assert partners_of("n0", names[:9], 16) == frozenset(names[1:9])
    chosen = {name: partners_of(name, names, 16) for name in names}
    assert all(len(each) == 16 for each in chosen.values())
    mutual = sum(one in chosen[other] for one in names for other in chosen[one])
    assert mutual > 0.7 * 300 * 16
    assert max(sum(name in each for each in chosen.values()) for name in names) < 48


def test_who_asked_hears_of_changes_at_most_every_tenth_of_a_second_and_for_a_while() -> None:
    telling, idle, busy = Telling(), load(), load(2, free_slots=0, backlog_s=(0.0, 1.0, 1.0))
    telling.asked("b", idle, 0)
    assert telling.due((), idle, 2 * SOON_NS) == []
    assert telling.due((), busy, SOON_NS // 2) == []
    assert telling.due((), busy, SOON_NS) == ["b"]
    telling.told("b", busy, SOON_NS)
    assert telling.due((), busy, 3 * SOON_NS) == []
    assert telling.due((), idle, INTEREST_NS + 1) == []


def test_partners_are_asked_now_and_then_even_where_nothing_changes() -> None:
    telling, idle = Telling(), load()
    assert telling.due(("b",), idle, 0) == ["b"]
    telling.told("b", idle, 0)
    assert telling.due(("b",), idle, KEEP_ALIVE_NS - 1) == []
    assert telling.due(("b",), idle, KEEP_ALIVE_NS) == ["b"]


def test_however_many_listen_a_node_tells_a_bounded_number_of_loads_a_second() -> None:
    telling = Telling()
    for number in range(1000):
        telling.asked(f"n{number}", load(), 0)
    assert len(telling.listeners()) == MAX_LISTENERS
    told, now_ns = 0, 0
    for turn in range(40):
        now_ns += SECOND // 10
        said = load(turn + 2, backlog_s=(0.0, turn % 2, turn % 2))
        for name in telling.due((), said, now_ns):
            telling.told(name, said, now_ns)
            told += 1
    assert told <= 4 * TOLD_PER_S + MAX_LISTENERS


def test_only_what_matters_to_a_decision_is_news() -> None:
    before = load(backlog_s=(0.0, 1.0, 1.0))
    assert is_news(None, before)
    assert not is_news(before, load(2, backlog_s=(0.0, 1.1, 1.0)))
    assert is_news(before, load(2, backlog_s=(0.0, 2.0, 1.0)))
    assert is_news(before, load(2, backlog_s=(0.0, 1.0, 1.0), draining=True))
    assert is_news(before, load(2, backlog_s=(0.0, 1.0, 1.0), free_slots=0))
    assert is_news(before, load(2, backlog_s=(0.0, 1.0, 1.0), factor=0.5))
