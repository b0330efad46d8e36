"""Trust: evidence decays, gains are capped, quarantine sticks, and every change can be explained."""

from __future__ import annotations

import sys

import pytest

from qedge.security.config import TrustConfig
from qedge.security.model import Evidence, Subject, SubjectKind
from qedge.security.trust.account import MAX_ROWS, Account
from qedge.security.trust.book import TrustBook, name_of
from qedge.security.trust.evidence import EVIDENCE, ORDER

S = 1_000_000_000
HOUR = 3600 * S
DAY = 24 * HOUR


def device(name: str = "d", *, safety: bool = False) -> Subject:
    return Subject(name, SubjectKind.DEVICE, device_class="meter", safety=safety)


def book(*, enforce: bool = True, **settings: float) -> TrustBook:
    return TrustBook(TrustConfig(**settings), enforce=enforce)  # type: ignore[arg-type]  # numbers of either kind


def review(trust: TrustBook, subject: Subject, now_ns: int) -> list[Subject]:
    """Look at all accounts once."""
    due = trust.review(lambda _: subject, now_ns, 100)
    return due or trust.review(lambda _: subject, now_ns, 100)


def test_the_table_of_evidence_is_bounded_and_names_every_kind() -> None:
    assert set(EVIDENCE) == set(Evidence)
    assert tuple(EVIDENCE) == ORDER
    for each in EVIDENCE.values():
        assert abs(each.weight) <= each.cap <= 50
        assert 60 <= each.half_life_s <= 7 * 86400
    unproven = sum(each.cap for each in EVIDENCE.values() if not each.proven)
    # what anybody can do in a device's name never quarantines it
    assert TrustConfig().base - unproven >= TrustConfig().quarantine_below


def test_evidence_lowers_trust_at_once_and_halves_in_its_half_life() -> None:
    trust, subject = book(), device()
    change = trust.observe(subject, Evidence.MALFORMED, 1.0, 0)
    assert (change.before, change.after, subject.trust, subject.epoch) == (50, 30, 30, 1)
    assert trust.score("d", 6 * HOUR) == pytest.approx(40)
    assert trust.score("d", 12 * HOUR) == pytest.approx(45)


def test_trust_recovers_later_than_the_score_and_in_full() -> None:
    trust, subject = book(), device()
    trust.observe(subject, Evidence.MALFORMED, 1.0, 0)
    review(trust, subject, 3 * HOUR)
    assert trust.score("d", 3 * HOUR) == pytest.approx(35.86, abs=0.01)
    assert subject.trust == 30
    review(trust, subject, 9 * HOUR)
    assert (round(trust.score("d", 9 * HOUR)), subject.trust) == (43, 35)
    review(trust, subject, 3 * DAY)
    assert subject.trust == 50


def test_a_class_of_evidence_never_counts_more_than_its_cap() -> None:
    trust, subject = book(), device()
    for second in range(1000):
        trust.observe(subject, Evidence.AUTHENTICATION_FAILED, 1.0, second * S)
        trust.observe(subject, Evidence.REPLAYED, 1.0, second * S)
    assert trust.score("d", 1000 * S) >= 50 - 28
    assert not subject.quarantined


def test_gains_are_capped_in_every_hour() -> None:
    trust, subject = book(gain_per_hour=10), device()
    scores = []
    for minute in range(5 * 60):
        trust.observe(subject, Evidence.ATTESTED, 1.0, minute * 60 * S)
        trust.observe(subject, Evidence.WELL_BEHAVED, 1.0, minute * 60 * S)
        scores.append(trust.score("d", minute * 60 * S))
    assert all(after - before <= 10 for before, after in zip(scores, scores[60:], strict=False))
    assert scores[-1] > 70


def test_safety_devices_and_the_mode_observe_keep_their_trust() -> None:
    for trust, subject in ((book(), device(safety=True)), (book(enforce=False), device())):
        trust.observe(subject, Evidence.FLOODING, 1.0, 0)
        assert (subject.trust, subject.epoch) == (50, 0)
        assert trust.score("d", 0) == 30


def test_a_quarantine_sticks_until_its_review_finds_the_score_well_above_the_threshold() -> None:
    trust, subject = book(review_s=3600), device()
    for _ in range(3):
        trust.observe(subject, Evidence.MALFORMED, 1.0, 0)
    trust.quarantine(subject, 0)
    assert subject.quarantined
    for hour in range(1, 40):
        if review(trust, subject, hour * HOUR):
            break
        assert subject.quarantined
    assert trust.score("d", hour * HOUR) >= 30
    assert trust.score("d", (hour - 1) * HOUR) < 30
    trust.release(subject, hour * HOUR)
    assert not subject.quarantined


def test_without_a_review_time_only_an_operator_ends_a_quarantine() -> None:
    trust, subject = book(review_s=0), device()
    trust.quarantine(subject, 0)
    assert review(trust, subject, 365 * DAY) == []
    assert subject.quarantined


def test_who_is_released_stays_out_but_is_on_probation() -> None:
    trust, subject = book(), device()
    for _ in range(5):
        trust.observe(subject, Evidence.FLOODING, 1.0, 0)
    trust.quarantine(subject, 0)
    trust.release(subject, S)
    assert trust.score("d", S) == pytest.approx(30, abs=0.01)
    assert subject.trust == 30
    assert trust.observe(subject, Evidence.FLOODING, 1.0, 2 * S).score < 20


def test_more_trust_can_be_demanded_for_a_time() -> None:
    trust, subject = book(), device()
    trust.demand(subject, 10, HOUR, 0)
    assert (subject.trust, trust.demanded("d", S)) == (40, 10)
    review(trust, subject, HOUR)
    assert (subject.trust, trust.demanded("d", HOUR)) == (50, 0)


def test_why_tells_the_last_changes() -> None:
    trust, subject = book(), device()
    trust.observe(subject, Evidence.DENIED, 0.5, S)
    for second in range(2, 6):
        trust.observe(subject, Evidence.MALFORMED, 0.25, second * S)
    trust.quarantine(subject, 6 * S)
    told = [
        (name_of(row.kind), row.at_ns // S, round(row.points), row.times, row.before, row.after)
        for row in trust.why("d")
    ]
    assert told == [
        ("denied", 1, -5, 1, 50, 45),
        ("malformed", 5, -20, 4, 45, 25),
        ("quarantined", 6, 0, 1, 25, 25),
    ]
    for hour in range(2, 60, 2):
        trust.observe(subject, Evidence.MALFORMED, 0.1, hour * HOUR)
        trust.observe(subject, Evidence.DENIED, 0.1, hour * HOUR)
    assert len(trust.why("d")) == MAX_ROWS


def test_a_calm_device_is_forgotten_after_a_day() -> None:
    trust, subject = book(), device()
    trust.observe(subject, Evidence.DENIED, 1.0, 0)
    review(trust, subject, 3 * DAY)
    assert len(trust) == 0
    assert subject.trust == 50


def test_twenty_thousand_quiet_devices_take_less_than_half_a_kib_each() -> None:
    trust = book()
    names = [f"device-{number}" for number in range(20_000)]
    for name in names:
        subject = device(name)
        trust.observe(subject, Evidence.ATTESTED, 1.0, 10**15)
        trust.observe(subject, Evidence.WELL_BEHAVED, 1.0, 10**15 + HOUR)
    sizes = 0
    for _, account in trust.accounts():
        slots = (getattr(account, name) for name in Account.__slots__)
        sizes += sys.getsizeof(account) + sum(sys.getsizeof(each) for each in slots)
    sizes += sys.getsizeof(trust._accounts)
    assert sizes / len(names) <= 512


def test_an_account_comes_back_with_its_ages() -> None:
    trust, subject = book(), device()
    trust.observe(subject, Evidence.MALFORMED, 1.0, 5 * HOUR)
    trust.observe(subject, Evidence.ATTESTED, 0.5, 6 * HOUR)
    ((_, account),) = trust.accounts()
    again = Account.unpack(account.pack(7 * HOUR), 2 * HOUR, 10 * S, 5.0)
    there = book()
    there.restore("d", again)
    assert there.score("d", 10 * S) == pytest.approx(trust.score("d", 9 * HOUR))
    assert [row.kind for row in there.why("d")] == [row.kind for row in trust.why("d")]
    fresh = device()
    there.admit(fresh)
    assert fresh.trust == 30


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x02\x00\x00", b"\x01\x65\x00", b"\x01\x00\x01" + b"\xff" * 17, b"\x01\x00\x05"]
)
def test_what_is_no_account_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no account"):
        Account.unpack(data, 0, 0, 5.0)
