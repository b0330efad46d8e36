"""Properties of policies: what holds for all of them, and that reading any text ends well."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.security.model import Decision, Reason
from qedge.security.policy.document import parse_document, read_document
from qedge.security.policy.model import Effect, PolicyDocument
from qedge.security.policy.rates import RateBook
from qedge.security.policy.table import PolicyTable
from tests.unit.security.policy.policy_site import HEAD, rule
from tests.unit.security.policy.random_policies import RandomPolicies, Request

SEEDS = st.integers(0, 2**32)
RULES = 10
REQUESTS = 40
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def decided(document: PolicyDocument, asked: list[Request]) -> list[Decision]:
    """Decide requests, each with rates that nobody has used."""
    rates = RateBook()
    table = PolicyTable(document, rates)
    found = []
    for each in asked:
        rates.clear()
        found.append(table.decide(each.subject, each.action, each.resource, each.now_ns, each.utc_ns))
    return found


def without(document: PolicyDocument, *names: str) -> PolicyDocument:
    """Return a policy with some rules less."""
    rules = {name: each for name, each in document.rules.items() if name not in names}
    return PolicyDocument(document.version, document.zone, "", document.segments, rules)


def world(seed: int) -> tuple[PolicyDocument, list[Request], RandomPolicies]:
    """Return a policy and requests."""
    made = RandomPolicies(seed)
    document = made.policy(RULES)
    return document, [request for _, request in made.requests(REQUESTS)], made


@FEW
@given(SEEDS)
def test_taking_a_permit_away_never_allows_anything_and_never_touches_what_a_forbid_denies(seed: int) -> None:
    document, asked, _ = world(seed)
    permits = [name for name, each in document.rules.items() if each.effect is Effect.PERMIT]
    more = decided(document, asked)
    for name in permits[:3]:
        less = decided(without(document, name), asked)
        for before, after in zip(less, more, strict=True):
            assert after.allowed or not before.allowed, "adding a permit denied something"
            assert (before.reason is Reason.FORBIDDEN) == (after.reason is Reason.FORBIDDEN)


@FEW
@given(SEEDS)
def test_adding_a_forbid_only_ever_denies_and_names_itself(seed: int) -> None:
    document, asked, _ = world(seed)
    forbids = [name for name, each in document.rules.items() if each.effect is Effect.FORBID]
    more = decided(document, asked)
    for name in forbids[:3]:
        for before, after in zip(decided(without(document, name), asked), more, strict=True):
            assert before.allowed or not after.allowed, "adding a forbid allowed something"
            if before != after:
                assert after == Decision(False, Reason.FORBIDDEN, name)


@FEW
@given(SEEDS)
def test_a_forbid_that_matches_everything_leaves_nothing_allowed(seed: int) -> None:
    made = RandomPolicies(seed)
    kinds = 'subjects = { kinds = ["device", "app", "peer", "cloud"] }\n'
    everything = '{ node = true, segments = ["*"], channels = ["*"], devices = ["*"], commands = ["*"], apps = ["*"] }'
    actions = '["connect", "publish", "subscribe", "command"]'
    text = made.text(RULES)
    text += f'[rules.stop]\neffect = "forbid"\n{kinds}actions = {actions}\nresources = {everything}\n'
    asked = [request for _, request in made.requests(REQUESTS)]
    assert not any(each.allowed for each in decided(parse_document(text.encode()), asked))


@FEW
@given(SEEDS)
def test_permits_stand_in_any_order_without_changing_what_is_allowed(seed: int) -> None:
    document, asked, made = world(seed)
    names = list(document.rules)
    made.rng.shuffle(names)
    turned = PolicyDocument(
        document.version, document.zone, "", document.segments, {name: document.rules[name] for name in names}
    )
    before, after = decided(document, asked), decided(turned, asked)
    assert [(each.allowed, each.reason) for each in before] == [(each.allowed, each.reason) for each in after]


@FEW
@given(SEEDS)
def test_more_trust_never_takes_a_permission_away_while_no_forbid_asks_for_it(seed: int) -> None:
    document, asked, _ = world(seed)
    document = without(document, *(name for name, each in document.rules.items() if each.effect is Effect.FORBID))
    trusted = []
    for each in asked:
        subject = each.subject
        if subject is not None:
            subject = replace(subject)
            subject.trust = 100
        trusted.append(Request(subject, each.action, each.resource, each.now_ns, each.utc_ns))
    for before, after in zip(decided(document, asked), decided(document, trusted), strict=True):
        assert after.allowed or not before.allowed


@FEW
@given(SEEDS)
def test_every_decision_names_a_rule_of_the_document_unless_no_rule_decided(seed: int) -> None:
    document, asked, _ = world(seed)
    nameless = {Reason.UNKNOWN, Reason.REVOKED, Reason.QUARANTINED, Reason.LEASE, Reason.NO_RULE}
    for each in decided(document, asked):
        assert each.allowed == (each.reason is Reason.ALLOWED)
        assert (each.rule == "") == (each.reason in nameless)
        assert each.rule == "" or each.rule in document.rules


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_a_policy_or_have_faults_with_what_was_expected(data: bytes) -> None:
    reading = read_document(data, "p.toml")
    assert (reading.document is None) == bool(reading.faults)
    assert all(each.problem and each.file == "p.toml" for each in reading.faults)


PIECES = ["", "x", '"', "]", "}", "=", "\n", "[", "true", "-1"]
SOUND = HEAD + rule("a", rest='when = { trust = 5, time = [{ from = "08:00" }] }') + rule("b", "forbid")


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, len(SOUND)),
    st.integers(0, 12),
    st.sampled_from(["", "x", '"', "]", "}", "=", "\n", "[", "true", "-1"]),
)
def test_a_policy_that_was_cut_or_mended_anywhere_is_read_or_refused_as_a_whole(at: int, drop: int, put: str) -> None:
    data = (SOUND[:at] + put + SOUND[at + drop :]).encode()
    try:
        document = parse_document(data, "p.toml")
    except QedgeError as error:
        assert error.code == "policy.invalid"
        assert "p.toml" in error.message
    else:
        PolicyTable(document)
