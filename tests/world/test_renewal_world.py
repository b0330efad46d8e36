"""A thousand boxes, enrolled in one hour, over years, with an authority that is away for weeks and a power cut.

The rules of both sides are the real ones; signatures are left out.
"""

from __future__ import annotations

import heapq
import os
import random
from collections import Counter
from typing import cast

import pytest

from qedge.base.errors import QedgeError
from qedge.crypto.authority import Issued
from qedge.crypto.keys import PublicKey
from qedge.crypto.model import Member, Role, Subject
from qedge.crypto.renewing import judge
from qedge.fleet.renewal.config import RenewalConfig
from qedge.fleet.renewal.pacing import Pacing
from qedge.mesh.certificate_watch import renewal_due_utc_ns

NODES = 1000
LIFE_DAYS = 90
DAY_NS = 86_400 * 10**9
MINUTE_NS = 60 * 10**9
LOST = 0.1
"""Part of all requests and answers that never arrive."""


def certificate(name: str, utc_ns: int) -> Member:
    """Return what the authority makes at a time."""
    subject = Subject("fleet", Role.NODE, name)
    ends = utc_ns + LIFE_DAYS * DAY_NS
    return Member(subject, f"key of {name}", cast(PublicKey, None), "ml-dsa-65", utc_ns - 5 * MINUTE_NS, ends, ())


class Fleet:
    """Everything, by one clock that begins at 0 and is boot time and wall clock at once."""

    def __init__(self, seed: int, away: list[tuple[int, int]], power_cut_ns: int) -> None:
        self.random = random.Random(seed)
        self.away = away
        self.power_cut_ns = power_cut_ns
        self.requests: Counter[int] = Counter()
        self.renewals: Counter[str] = Counter()
        self.expired: list[tuple[str, int]] = []
        self.least_left_ns = LIFE_DAYS * DAY_NS
        self.ledger: dict[str, Issued] = {}
        self.made: dict[str, Member] = {}
        self.held: dict[str, Member] = {}
        self.pacing: dict[str, Pacing] = {}
        self.queue: list[tuple[int, str]] = []
        for number in range(NODES):
            name, born_ns = f"box-{number}", self.random.randrange(60) * MINUTE_NS + 10**9
            self.held[name] = self.issue(name, born_ns)
            self.start(name, born_ns)

    def start(self, name: str, now_ns: int) -> None:
        self.pacing[name] = Pacing(RenewalConfig(), self.random.random)
        heapq.heappush(self.queue, (max(now_ns, renewal_due_utc_ns(self.held[name])), name))

    def issue(self, name: str, utc_ns: int) -> Member:
        member = certificate(name, utc_ns)
        self.ledger[name] = Issued(name, member.key_id, utc_ns, member.not_after_utc_ns)
        self.made[name] = member
        return member

    def run(self, years: float) -> None:
        end_ns = round(years * 365 * DAY_NS)
        while self.queue and self.queue[0][0] < end_ns:
            now_ns, name = heapq.heappop(self.queue)
            if self.power_cut_ns and now_ns >= self.power_cut_ns:
                self.queue, self.power_cut_ns = [], 0
                for each in self.held:
                    self.start(each, now_ns)
                continue
            self.look(name, now_ns)
        for name, member in self.held.items():
            if member.not_after_utc_ns < end_ns:
                self.expired.append((name, member.not_after_utc_ns))

    def look(self, name: str, now_ns: int) -> None:
        member, pacing = self.held[name], self.pacing[name]
        left_ns = member.not_after_utc_ns - now_ns
        self.least_left_ns = min(self.least_left_ns, left_ns)
        if left_ns <= 0:
            self.expired.append((name, now_ns))
            return
        if pacing.wants(member, now_ns, now_ns):
            self.requests[now_ns // MINUTE_NS] += 1
            pacing.has_asked(member, now_ns)
            if self.is_answered(name, member, now_ns):
                self.held[name] = self.made[name]
                self.renewals[name] += 1
                heapq.heappush(self.queue, (renewal_due_utc_ns(self.held[name]), name))
                return
        heapq.heappush(self.queue, (max(now_ns + 10**9, pacing.held_until_ns), name))

    def is_answered(self, name: str, member: Member, now_ns: int) -> bool:
        if any(begin <= now_ns < end for begin, end in self.away) or self.random.random() < LOST:
            return False
        again = self.made[name].not_after_utc_ns > member.not_after_utc_ns
        try:
            judge(self.ledger[name], member, now_ns, again=again)
        except QedgeError:
            return False
        if not again:
            self.issue(name, now_ns)
        return self.random.random() >= LOST


def seeds() -> list[int]:
    return [int(os.environ.get("QEDGE_WORLD_SEED", "7"))]


@pytest.mark.parametrize("seed", seeds())
def test_over_years_no_certificate_ends_and_nobody_is_overrun(seed: int) -> None:
    away = [(60 * DAY_NS, 78 * DAY_NS), (400 * DAY_NS, 418 * DAY_NS)]
    fleet = Fleet(seed, away, power_cut_ns=75 * DAY_NS)
    fleet.run(years=3)
    assert fleet.expired == []
    assert fleet.least_left_ns > DAY_NS
    counts = sorted(fleet.renewals.values())
    assert len(counts) == NODES
    # once in two thirds to a bit more than three quarters of a life, and never more often
    assert 14 <= counts[0] <= counts[-1] <= 18, (counts[0], counts[-1])
    # the worst minute is that after the power cut, in which all are due: they come within the window of ten minutes
    assert max(fleet.requests.values()) <= 140
    quiet = [number for minute, number in fleet.requests.items() if minute * MINUTE_NS > 90 * DAY_NS]
    assert max(quiet) <= 20


def test_an_authority_that_comes_back_after_weeks_is_not_overrun() -> None:
    fleet = Fleet(1, [(60 * DAY_NS, 80 * DAY_NS)], power_cut_ns=0)
    fleet.run(years=0.25)
    back = 80 * 24 * 60
    after = [fleet.requests[back + minute] for minute in range(24 * 60)]
    assert max(after) <= 20
    assert sum(after) <= 2 * NODES
    assert fleet.expired == []
