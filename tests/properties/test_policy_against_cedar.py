"""The decision table decides as Cedar does, on random policies and requests, and gives the reasons that follow."""

from __future__ import annotations

from collections import Counter

import pytest

from qedge.security.model import Decision, Reason
from qedge.security.policy.explain import explain
from qedge.security.policy.model import DENIALS
from qedge.security.policy.rates import Key, RateBook
from qedge.security.policy.table import PolicyTable
from tests.unit.security.policy.random_policies import RandomPolicies, Request

pytest.importorskip("cedarpy", reason="the oracle is not installed")

from tests.unit.security.policy.cedar_oracle import ALL, BARRED, Buckets, Oracle

RULES = 16
REQUESTS = 250
LATER = range(1, ALL)
"""Stages after the one that looks at no conditions; at the last of all, `ALL`, these requests are denied."""


class Endless(RateBook):
    """Rates that are never used up."""

    def take(self, key: Key, interval_ns: int, depth_ns: int, now_ns: int) -> bool:
        """Let everybody pass."""
        return True


def decide_all(seed: int) -> tuple[Oracle, list[tuple[Request, list[str], Decision]]]:
    """Decide many requests on one policy, one after the other, and count rates beside it."""
    made = RandomPolicies(seed)
    document = made.policy(RULES)
    table, buckets = PolicyTable(document), Buckets(document)
    decided = []
    for subject, request in made.requests(REQUESTS):
        tokens = buckets.tokens(request)
        decision = table.decide(subject, request.action, request.resource, request.now_ns, request.utc_ns)
        if decision.allowed:
            buckets.use(decision.rule, request)
        decided.append((request, tokens, decision))
    return Oracle(document), decided


def disagreements(seed: int, seen: Counter[Reason]) -> list[str]:
    """Name every request that Cedar decides otherwise, for another reason or by other rules."""
    oracle, decided = decide_all(seed)
    wrong = []
    plain_denials = []
    answers = oracle.ask([(request, tokens, ALL) for request, tokens, _ in decided])
    for (request, tokens, decision), (allowed, rules) in zip(decided, answers, strict=True):
        seen[decision.reason] += 1
        if allowed != decision.allowed:
            good = False
        elif allowed:
            good = decision.rule in rules
        elif barred := [reason for name, reason in BARRED.items() if name in rules]:
            good = decision.reason is barred[0]
        elif rules:
            good = decision.reason is Reason.FORBIDDEN and decision.rule in rules
        elif request.subject is None:
            good = decision.reason is Reason.UNKNOWN
        else:
            plain_denials.append((request, tokens, decision))
            continue
        if not good:
            wrong.append(f"seed {seed}: {request}: {decision}, Cedar {allowed} {rules}")
    # How far each denied request comes: the first stage at which nothing permits it is its reason.
    matched = [allowed for allowed, _ in oracle.ask([(*each[:2], 0) for each in plain_denials])]
    further = [each for each, any_rule in zip(plain_denials, matched, strict=True) if any_rule]
    staged = [allowed for allowed, _ in oracle.ask([(*each[:2], stage) for each in further for stage in LATER])]
    reasons = {id(each): Reason.NO_RULE for each in plain_denials}
    for number, each in enumerate(further):
        stages = staged[number * len(LATER) : (number + 1) * len(LATER)]
        reasons[id(each)] = DENIALS[stages.index(False) if False in stages else len(LATER)]
    wrong += [
        f"seed {seed}: {each[0]}: {each[2]}, Cedar comes to {reasons[id(each)]}"
        for each in plain_denials
        if each[2].reason is not reasons[id(each)]
    ]
    return wrong


def test_the_table_and_cedar_agree_on_ten_thousand_requests() -> None:
    seen: Counter[Reason] = Counter()
    assert [each for seed in range(40) for each in disagreements(seed, seen)] == []
    assert seen.total() == 10_000
    assert set(seen) == set(Reason) - {Reason.LEASE}, "every reason has to come up"


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(1000, 3000, 100))
def test_the_table_and_cedar_agree_on_half_a_million_requests(first: int) -> None:
    seen: Counter[Reason] = Counter()
    assert [each for seed in range(first, first + 100) for each in disagreements(seed, seen)] == []
    assert seen.total() == 25_000


def test_the_table_and_the_explanation_agree_in_decision_reason_and_rule() -> None:
    for seed in range(100, 120):
        made = RandomPolicies(seed)
        document = made.policy(RULES)
        table = PolicyTable(document, Endless())
        for subject, request in made.requests(REQUESTS):
            told = explain(document, subject, request.action, request.resource, request.now_ns, request.utc_ns)
            decision = table.decide(subject, request.action, request.resource, request.now_ns, request.utc_ns)
            assert told.decision == decision, (seed, request)
