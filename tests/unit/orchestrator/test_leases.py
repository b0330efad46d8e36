"""Leases at both ends, epochs, and who adopts what: pure, with time as an argument."""

from __future__ import annotations

import pytest

from qedge.orchestrator.ledger.config import LedgerConfig
from qedge.orchestrator.ledger.custody import Custody, place_of, ranked
from qedge.orchestrator.ledger.epochs import adopted_epoch, next_epoch, owner_of, rank_of
from qedge.orchestrator.ledger.held import Held, Take
from qedge.orchestrator.ledger.leases import Leases, Word
from qedge.orchestrator.ledger.model import LeaseState
from qedge.orchestrator.ledger.stragglers import Stragglers
from qedge.wire.jobs import JobOffer, JobSubmission
from qedge.wire.ledger import HeldLease

S = 1_000_000_000
PROGRAM = JobSubmission(program="p")
HOLDERS = ("a", "b", "c")


def offer(job_id: str = "j", epoch: int = 1, holders: tuple[str, ...] = HOLDERS) -> JobOffer:
    return JobOffer(job_id, PROGRAM, epoch, 1000, holders)


def test_an_epoch_says_whose_it_is_and_no_two_holders_share_one() -> None:
    seen = {0}
    epoch = 0
    for rank in (1, 2, 1, 0, 2, 2, 0):
        epoch = adopted_epoch(epoch, rank)
        assert rank_of(epoch) == rank
        assert owner_of(epoch, HOLDERS) == HOLDERS[rank]
        assert epoch > max(seen)
        seen.add(epoch)
        epoch = next_epoch(epoch)
        assert owner_of(epoch, HOLDERS) == HOLDERS[rank]
        seen.add(epoch)
    assert adopted_epoch(5, 1) != adopted_epoch(5, 2)
    assert owner_of(adopted_epoch(0, 3), HOLDERS) == ""


def test_a_lease_lasts_from_the_last_word_of_its_runner_and_no_longer() -> None:
    leases = Leases(S)
    leases.add("j")
    grant = leases.offer("j", "b", 0)
    assert leases.claim("j", "b", grant.epoch, S // 10) is Word.COUNTS
    for now in range(2, 20):
        assert leases.due(now * S // 10) == []
        assert leases.renew("b", [HeldLease("j", 1)], now * S // 10) == []
    for now in (23, 26, 28):
        assert leases.due(now * S // 10) == []
    assert leases.due(29 * S // 10) == [("j", grant)]
    assert grant.state is LeaseState.LOST
    assert leases.word("j", "b", 1) is Word.STALE
    assert leases.renew("b", [HeldLease("j", 1)], 3 * S) == ["j"]
    assert leases.offer("j", "c", 3 * S).epoch == 2


def test_an_owner_that_stood_still_gives_its_runners_the_time_again() -> None:
    leases = Leases(S)
    leases.add("j")
    leases.offer("j", "b", 0)
    assert leases.due(0) == []
    assert leases.due(10 * S) == []
    assert leases.renew("b", [HeldLease("j", 1)], 10 * S) == []


def test_who_waits_for_its_runner_keeps_the_lease_beyond_its_time() -> None:
    leases = Leases(S)
    leases.add("j")
    grant = leases.offer("j", "b", 0, patient=True)
    leases.due(S // 2)
    assert leases.due(S) == [("j", grant)]
    assert leases.due(S + S // 4) == []
    assert grant.state is LeaseState.LAPSED
    assert leases.word("j", "b", 1) is Word.COUNTS
    assert leases.renew("b", [HeldLease("j", 1)], 2 * S) == []
    assert grant.state is LeaseState.HELD


def test_a_runner_that_is_gone_loses_its_leases_at_once_and_one_near_its_deadline_early() -> None:
    leases = Leases(S)
    leases.add("j")
    leases.add("k", hurry_ns=S // 10)
    leases.offer("j", "b", 0)
    leases.offer("k", "c", 0)
    leases.due(0)
    leases.gone("b", S // 10)
    assert [job for job, _ in leases.due(S // 5)] == ["j"]
    assert [job for job, _ in leases.due(6 * S // 10)] == ["k"]


def test_of_two_leases_of_a_straggler_the_first_result_ends_both() -> None:
    leases = Leases(S)
    leases.add("j")
    first, second = leases.offer("j", "b", 0), leases.offer("j", "c", 0)
    with pytest.raises(ValueError, match="2 leases"):
        leases.offer("j", "d", 0)
    assert leases.word("j", "b", 1) is leases.word("j", "c", 2) is Word.COUNTS
    assert leases.end("j", second) == [first]
    assert (first.state, second.state) == (LeaseState.LOST, LeaseState.ENDED)
    assert leases.word("j", "b", 1) is Word.UNKNOWN


def test_a_peer_neither_renews_nor_answers_a_lease_that_is_not_its_own() -> None:
    leases = Leases(S)
    leases.add("j")
    grant = leases.offer("j", "b", 0)
    assert leases.renew("thief", [HeldLease("j", 1)], S // 2) == ["j"]
    assert leases.word("j", "thief", 1) is Word.STALE
    assert leases.word("j", "thief", 0) is Word.STALE
    assert leases.claim("j", "thief", 1, S // 2) is Word.STALE
    leases.due(S // 2)
    assert leases.due(S) == [("j", grant)]


def test_a_newer_offer_that_is_on_its_way_to_the_same_runner_does_not_stop_the_job() -> None:
    leases = Leases(S)
    leases.add("j")
    leases.offer("j", "b", 0)
    leases.due(S // 2)
    leases.due(S)
    leases.offer("j", "b", S)
    assert leases.renew("b", [HeldLease("j", 1)], S) == []
    assert leases.due(S + S // 2) == []


def test_a_runner_counts_its_lease_from_what_it_sent() -> None:
    held = Held(10)
    assert held.take("a", offer(), "node:a", 0) is Take.NEW
    assert held.renewals(S // 10) == {}
    asked = held.renewals(S // 3)["a"]
    assert asked == (HeldLease("j", 1),)
    assert held.renewals(S // 2) == {}
    assert held.renewed("a", asked, (), S // 3) == []
    assert held.overdue(S + S // 3 - 1) == []
    assert [hold.job_id for hold in held.overdue(S + S // 3)] == ["j"]
    assert held.overdue(2 * S) == []
    [stopped] = held.renewed("a", asked, ("j",), S)
    assert stopped.job_id == "j"
    assert held.find("j") is None


def test_one_message_renews_all_leases_of_an_owner() -> None:
    held = Held(2000)
    for index in range(1000):
        held.take("a", offer(f"j{index}"), "node:a", 0)
    held.take("b", offer("other"), "node:b", 0)
    renewals = held.renewals(S // 3)
    assert {owner: len(leases) for owner, leases in renewals.items()} == {"a": 1000, "b": 1}


def test_a_job_is_taken_over_by_its_holders_alone_and_only_under_a_higher_epoch() -> None:
    held = Held(10)
    held.take("a", offer(epoch=5), "node:a", 0)
    assert held.take("thief", offer(epoch=99, holders=("a", "thief")), "node:thief", 0) is Take.FOREIGN
    assert held.take("b", offer(epoch=5), "node:b", 0) is Take.FOREIGN
    assert held.take("a", offer(epoch=4), "node:a", 0) is Take.STALE
    assert held.take("a", offer(epoch=5), "node:a", 0) is Take.SAME
    adopted = adopted_epoch(5, 1)
    assert held.take("b", offer(epoch=adopted), "node:b", 0) is Take.ANEW
    hold = held.find("j")
    assert hold is not None
    assert (hold.owner, hold.epoch, hold.client) == ("b", adopted, "node:a")
    assert held.take("a", offer(epoch=6), "node:a", 0) is Take.FOREIGN
    assert not held.may_stop("a", "j", 0)
    assert not held.may_stop("b", "j", adopted - 1)
    assert held.may_stop("b", "j", adopted)


def test_a_flood_of_offers_fills_only_the_share_of_its_sender() -> None:
    held = Held(3)
    taken = [held.take("flood", offer(f"j{index}"), "node:flood", 0) for index in range(100)]
    assert taken.count(Take.NEW) == 3
    assert held.take("a", offer("k"), "node:a", 0) is Take.NEW
    held.heard("j0", 1)
    assert held.take("flood", offer("j200"), "node:flood", 0) is Take.NEW
    assert len(held) == 4


def test_holders_are_the_same_wherever_they_are_chosen_and_spread_over_all_nodes() -> None:
    names = [f"n{index}" for index in range(8)]
    first = {ranked(place_of("me", f"key {index}", ""), names)[0] for index in range(200)}
    assert first == set(names)
    assert ranked("k", names) == ranked("k", reversed(names))
    without = [name for name in names if name != ranked("k", names)[0]]
    assert ranked("k", without)[0] == ranked("k", names)[1]


def test_the_living_holder_of_the_lowest_rank_adopts_first_and_a_higher_one_only_where_that_does_not() -> None:
    first, second = Custody("b", S), Custody("c", S)
    for custody in (first, second):
        custody.hold("j", 1, HOLDERS)
        assert custody.due({"a", "b", "c"}, 0) == []
        assert custody.due({"b", "c"}, S) == []
    assert first.due({"b", "c"}, 2 * S) == ["j"]
    assert second.due({"b", "c"}, 2 * S) == []
    assert second.due({"b", "c"}, 4 * S) == ["j"]
    assert second.due({"a", "b", "c"}, 5 * S) == []
    second.hold("j", adopted_epoch(1, 1), HOLDERS)
    assert second.due({"b", "c"}, 9 * S) == []
    assert second.due({"c"}, 9 * S) == []
    assert second.due({"c"}, 10 * S) == ["j"]


def test_a_node_that_has_just_begun_takes_nobody_for_dead() -> None:
    custody = Custody("b", S)
    custody.began(3 * S)
    custody.hold("j", 1, HOLDERS)
    assert custody.due({"b"}, 2 * S) == []
    assert custody.due({"b"}, 3 * S) == []
    assert custody.due({"b"}, 4 * S) == ["j"]


def test_a_straggler_is_late_by_its_prediction_and_by_what_others_took() -> None:
    stragglers = Stragglers(LedgerConfig(straggler_factor=3.0, straggler_min_s=0.5, straggler_share=0.1))
    assert stragglers.limit_s(1.0) == pytest.approx(3.0)
    assert stragglers.limit_s(0.01) == pytest.approx(0.5)
    for _ in range(50):
        stragglers.learn(2.0, 1.0)
    assert stragglers.limit_s(1.0) == pytest.approx(6.0)
    assert stragglers.room(100, 9)
    assert not stragglers.room(100, 10)
    assert stragglers.room(3, 0)
    assert Stragglers(LedgerConfig(straggler_factor=0.0)).limit_s(1.0) == 0
