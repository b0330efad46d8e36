"""Properties of the shared state: clocks follow causes, and copies that saw the same hold the same."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.orchestrator.state.hybrid_clock import HybridClock, stamp_of, utc_ns_of
from qedge.orchestrator.state.model import Entry, Verdict, make_entry
from qedge.orchestrator.state.namespaces import NAMESPACES, Namespace, Scope
from qedge.orchestrator.state.replica import Replica
from qedge.wire.state import StateEntry, StateHeads

UTC_NS = 1_800_000_000 * 10**9
AHEAD_NS = 5 * 10**9
SMALL = {
    each.name: each
    for each in (
        Namespace("own", Scope.SITE, "", per_writer=3, in_all=8, evicts=True),
        Namespace("all", Scope.SITE, "", own=False, per_writer=4, in_all=6, keep_s=0),
        Namespace("serial", Scope.SITE, "", by_serial=True, per_writer=2, in_all=6),
    )
}


def replica(namespaces: dict[str, Namespace] = SMALL) -> Replica:
    return Replica(Scope.SITE, HybridClock(AHEAD_NS), namespaces)


def entry(namespace: str, key: str, writer: str, stamp: int, serial: int = 0, value: bytes = b"") -> Entry:
    said = StateEntry(namespace, key, stamp, serial if SMALL[namespace].by_serial else 0, not value, value)
    return make_entry(said, writer, own=SMALL[namespace].own)


ENTRIES = st.lists(
    st.builds(
        entry,
        st.sampled_from(sorted(SMALL)),
        st.sampled_from("abcde"),
        st.sampled_from(["n1", "n2", "n3"]),
        st.integers(0, 12).map(lambda number: stamp_of(UTC_NS) + number),
        st.integers(0, 3),
        st.binary(max_size=1),
    ),
    max_size=40,
)


def exchange(asker: Replica, answerer: Replica) -> None:
    """Compare two copies as nodes do."""
    wants, offers = asker.compare(answerer.heads(asker.sums()))
    handed = answerer.load(wants)
    for each in asker.load(offers):
        answerer.merge(each, UTC_NS)
    for each in handed:
        asker.merge(each, UTC_NS)


def settle(copies: list[Replica], rng: Random) -> int:
    """Compare random pairs until all are alike; returns how many comparisons that took."""
    for count in range(400):
        if len({each.root() for each in copies}) == 1:
            return count
        exchange(*rng.sample(copies, 2))
    raise AssertionError("the copies never became alike")


@given(ENTRIES, st.randoms(use_true_random=False))
def test_order_and_repetition_of_what_comes_do_not_matter_where_no_bound_is_reached(
    history: list[Entry], rng: Random
) -> None:
    roomy = {name: Namespace(name, Scope.SITE, "", each.own, each.by_serial) for name, each in SMALL.items()}
    roomy = {
        name: Namespace(name, Scope.SITE, "", own=each.own, by_serial=each.by_serial, per_writer=99, in_all=999)
        for name, each in roomy.items()
    }
    one, other = replica(roomy), replica(roomy)
    for each in history:
        one.merge(each, UTC_NS)
    again = history * 2
    rng.shuffle(again)
    for each in again:
        other.merge(each, UTC_NS)
    assert one.root() == other.root()


@given(ENTRIES, st.randoms(use_true_random=False))
def test_entries_of_ones_own_come_to_the_same_in_any_order_at_the_bounds_too(history: list[Entry], rng: Random) -> None:
    history = [each for each in history if each.said.namespace == "own"]
    one, other = replica(), replica()
    for each in history:
        one.merge(each, UTC_NS)
    rng.shuffle(history)
    for each in history:
        other.merge(each, UTC_NS)
    assert one.root() == other.root()


@settings(max_examples=150)
@given(ENTRIES, st.integers(2, 6), st.randoms(use_true_random=False))
def test_copies_that_saw_different_parts_become_alike_by_comparing(
    history: list[Entry], count: int, rng: Random
) -> None:
    copies, came = [replica() for _ in range(count)], list[Entry]()
    for each in history:
        for copy in copies:
            for _ in range(rng.choice((0, 1, 1, 2))):  # lost, once, twice
                copy.merge(each, UTC_NS)
                came.append(each)
    settle(copies, rng)
    held = {each.ident: each for each in copies[0]}
    for namespace in SMALL.values():
        entries = copies[0].under(namespace.name)
        assert len(entries) <= namespace.in_all
        for writer in ("n1", "n2", "n3"):
            assert copies[0].held_by(namespace.name, writer) <= namespace.per_writer
    for each in came:
        if each.ident in held and SMALL[each.said.namespace].own:
            assert held[each.ident].order >= each.order or each.said.namespace == "serial"


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(4, 12))
def test_a_partition_with_writers_on_both_sides_heals_to_one_map(seed: int, count: int) -> None:
    rng = Random(seed)
    clocks = [HybridClock(AHEAD_NS) for _ in range(count)]
    copies = [Replica(Scope.SITE, clock, SMALL) for clock in clocks]
    utc_ns = UTC_NS
    for _ in range(60):
        utc_ns += rng.randrange(2_000_000)
        at = rng.randrange(count)
        drift_ns = (at - count // 2) * 10_000_000
        name = rng.choice(sorted(SMALL))
        said = entry(name, rng.choice("abc"), f"n{at}", clocks[at].tick(utc_ns + drift_ns), rng.randrange(3), b"x")
        for index, copy in enumerate(copies):
            if index == at or (index % 2 == at % 2 and rng.random() < 0.8):
                copy.merge(said, utc_ns)
    settle(copies, rng)


@given(st.lists(st.tuples(st.integers(-AHEAD_NS, AHEAD_NS), st.booleans()), max_size=60))
def test_stamps_only_grow_and_stay_near_the_wall_clock(steps: list[tuple[int, bool]]) -> None:
    clock, last = HybridClock(AHEAD_NS), -1
    for offset_ns, seen in steps:
        if seen:
            clock.observe(stamp_of(UTC_NS + offset_ns), UTC_NS)
        else:
            stamp = clock.tick(UTC_NS)
            assert stamp > last
            assert abs(utc_ns_of(stamp) - UTC_NS) <= AHEAD_NS + 1_000_000
            last = stamp
        assert clock.last >= last


@given(st.integers(0, 2**32))
def test_what_a_node_says_after_it_heard_something_has_a_later_stamp(seed: int) -> None:
    rng = Random(seed)
    clocks = [HybridClock(AHEAD_NS) for _ in range(3)]
    walls = [UTC_NS + rng.randrange(-AHEAD_NS // 3, AHEAD_NS // 3) for _ in clocks]
    heard = 0
    for _ in range(50):
        speaker, hearer = rng.sample(range(3), 2)
        walls = [wall + rng.randrange(3_000_000) for wall in walls]
        stamp = clocks[speaker].tick(walls[speaker])
        assert clocks[hearer].observe(stamp, walls[hearer])
        heard = clocks[hearer].tick(walls[hearer])
        assert heard > stamp


def test_a_stamp_too_far_ahead_moves_no_clock_and_is_not_taken() -> None:
    clock = HybridClock(AHEAD_NS)
    copy = Replica(Scope.SITE, clock, SMALL)
    far = entry("own", "a", "n1", stamp_of(UTC_NS + AHEAD_NS + 10**9), value=b"x")
    assert copy.merge(far, UTC_NS) is Verdict.AHEAD
    assert clock.last == 0
    assert len(copy) == 0


def test_a_node_whose_clock_was_set_far_back_says_nothing_that_peers_would_refuse() -> None:
    clock = HybridClock(AHEAD_NS)
    clock.tick(UTC_NS)
    with pytest.raises(QedgeError, match="clock"):
        clock.tick(UTC_NS - 2 * AHEAD_NS)


def test_an_entry_that_expired_stays_away_and_so_does_what_was_deleted() -> None:
    copy, week_ns = replica(), SMALL["own"].keep_s * 10**9
    live = entry("own", "a", "n1", stamp_of(UTC_NS), value=b"x")
    gone = entry("own", "a", "n1", stamp_of(UTC_NS) + 1)
    assert copy.merge(live, UTC_NS) is Verdict.NEW
    assert copy.merge(gone, UTC_NS) is Verdict.NEW
    later_ns = UTC_NS + week_ns + 10**9
    assert copy.expire(later_ns) == [gone]
    assert copy.merge(live, later_ns) is Verdict.EXPIRED
    assert len(copy) == 0


def test_what_is_said_of_an_unknown_namespace_or_is_too_large_has_no_effect() -> None:
    copy = replica()
    said = StateEntry("nowhere", "a", stamp_of(UTC_NS))
    assert copy.merge(make_entry(said, "n1", own=True), UTC_NS) is Verdict.FORBIDDEN
    large = entry("own", "a", "n1", stamp_of(UTC_NS), value=b"x" * 4097)
    assert copy.merge(large, UTC_NS) is Verdict.FORBIDDEN


def test_equivocation_comes_to_the_same_everywhere() -> None:
    both = [entry("own", "a", "n1", stamp_of(UTC_NS), value=value) for value in (b"x", b"y")]
    one, other = replica(), replica()
    for each in both:
        one.merge(each, UTC_NS)
    for each in reversed(both):
        other.merge(each, UTC_NS)
    assert one.root() == other.root()


def test_a_large_difference_is_told_in_parts() -> None:
    many = {"own": Namespace("own", Scope.SITE, "", per_writer=20_000, in_all=20_000)}
    full, empty = replica(many), replica(many)
    for number in range(9000):
        full.merge(entry("own", f"k{number}", "n1", stamp_of(UTC_NS) + number, value=b"x"), UTC_NS)
    heads: StateHeads = full.heads(empty.sums())
    assert 0 < len(heads.buckets) < 64
    assert len(heads.heads) <= 8192
    for _ in range(200):
        exchange(empty, full)
    assert len(empty) > 5000


def test_every_namespace_has_room_for_what_it_promises() -> None:
    for namespace in NAMESPACES.values():
        assert namespace.per_writer <= namespace.in_all
        assert not (namespace.by_serial and not namespace.own)
        worst_mib = namespace.in_all * (namespace.value_bytes + 4096) / 2**20
        assert worst_mib <= 40
