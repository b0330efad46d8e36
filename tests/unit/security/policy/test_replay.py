"""Claims about replaying recorded requests, and about expectations."""

from __future__ import annotations

import json

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.security.model import Action, Reason, Resource, ResourceKind
from qedge.security.policy.expectations import read_expectations, resource_of, run_expectations
from qedge.security.policy.replay import read_line, record, request_of, simulate
from qedge.security.policy.table import PolicyTable
from tests.unit.security.policy.policy_site import NOON_UTC_NS, PUBLISH, REPORT, S, channel, meter, policy, rule


def line(table: PolicyTable, subject: object, now_ns: int = 0) -> bytes:
    """Decide a request and record it."""
    decision = table.decide(subject, PUBLISH, channel(), now_ns, NOON_UTC_NS)  # type: ignore[arg-type]  # a subject
    return msgspec.json.encode(record(subject, PUBLISH, channel(), now_ns, NOON_UTC_NS, decision))  # type: ignore[arg-type]  # a subject


def test_a_recorded_request_comes_back_as_it_was() -> None:
    subject = meter(
        groups=frozenset({"a"}), attributes={"floor": "2"}, posture=frozenset({"s"}), trust=7, qkd_backed=True
    )
    asked = record(subject, PUBLISH, channel(), 5, 6, PolicyTable().decide(subject, PUBLISH, channel(), 5, 6))
    again = read_line(msgspec.json.encode(asked))
    assert again == asked
    assert again is not None
    assert request_of(again) == (subject, PUBLISH, channel())


def test_a_replay_against_the_same_policy_changes_nothing() -> None:
    table = PolicyTable(policy(REPORT))
    log = [line(table, meter(trust=trust)) for trust in (10, 90)] + [line(table, None)]
    outcome = simulate(policy(REPORT), log)
    assert (outcome.requests, outcome.same, outcome.changes) == (3, 3, [])


def test_a_replay_tells_what_would_change_and_how_often() -> None:
    table = PolicyTable(policy(REPORT))
    log = [line(table, meter(trust=trust)) for trust in (10, 20, 90)]
    outcome = simulate(policy(rule("strict", rest="when = { trust = 50 }")), log)
    assert (outcome.newly_denied, outcome.newly_allowed, outcome.same) == (2, 0, 1)
    (change,) = outcome.changes
    assert (change.before.rule, change.after.reason, change.count) == ("report", Reason.TRUST, 2)
    back = simulate(policy(REPORT), [line(PolicyTable(), meter())])
    assert back.newly_allowed == 1


def test_rates_are_replayed_by_the_recorded_clock_and_begin_anew_with_the_box() -> None:
    document = policy(rule("r", rest="rate = { per_second = 1 }"))
    log = [line(PolicyTable(policy(REPORT)), meter(), now_ns) for now_ns in (5 * S, 5 * S, 6 * S, 0, 0)]
    outcome = simulate(document, log)
    assert (outcome.same, outcome.newly_denied) == (3, 2)


def test_rows_of_other_kinds_are_passed_over_and_those_that_hold_a_request_are_read() -> None:
    plain = line(PolicyTable(policy(REPORT)), meter())
    row = json.dumps({"seq": 1, "hash": "ab", "request": json.loads(plain)}).encode()
    outcome = simulate(policy(REPORT), [row, b'{"seq":2,"request":"restart"}', b"", plain])
    assert (outcome.requests, outcome.others) == (2, 1)


@pytest.mark.parametrize(
    "bad",
    [
        b"no json",
        b"[1]",
        b'{"type":"recorded-request/1"}',
        b'{"request":{"type":"recorded-request/1","utc_ns":"now"}}',
        b"{" + b" " * 70_000,
        b'{"type":"recorded-request/1","utc_ns":0,"now_ns":0,"action":"fly","resource":{"kind":"node"},'
        b'"allowed":true,"reason":"allowed"}',
    ],
)
def test_a_line_that_cannot_be_read_is_named_by_its_number(bad: bytes) -> None:
    with pytest.raises(QedgeError, match="Line 2") as error:
        simulate(policy(REPORT), [b"{}", bad])
    assert error.value.code == "policy.bad_request"


# Expectations

ASK = '[[expect]]\nsubject = "m"\naction = "connect"\nresource = "node"\n'
EXPECT = """[subjects.m]
class = "meter"
segment = "hall"
[subjects.gone]
revoked = true
[[expect]]
subject = "m"
action = "publish"
resource = "segment:hall/temp"
reason = "allowed"
rule = "r"
[[expect]]
subject = "m"
action = "publish"
resource = "segment:hall/temp"
times = 3
reason = "rate"
[[expect]]
subject = "nobody"
action = "connect"
resource = "node"
reason = "unknown"
[[expect]]
subject = "gone"
action = "command"
resource = "device:v/open@doors"
reason = "quarantined"
"""


def test_expectations_are_met_or_not_each_by_itself() -> None:
    document = policy(rule("r", rest="rate = { per_second = 1, burst = 2 }"))
    expectations, lines = read_expectations(EXPECT, "e.toml")
    outcomes = list(run_expectations(document, expectations, lines))
    assert [(each.met, each.line) for each in outcomes] == [(True, 6), (True, 12), (True, 18), (False, 23)]
    assert outcomes[3].decision.reason is Reason.REVOKED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ASK.replace("node", "hall") + 'reason = "allowed"', "e.toml:4: .*segment:NAME"),
        (ASK + 'reason = "maybe"', "e.toml:5"),
        (ASK, "missing key"),
        (ASK + 'reason = "allowed"\nat = "2027-02-30T00:00"', "e.toml:6: .*no such moment"),
        ("[subject.m]", "unknown key"),
        ("[[expect", "not valid TOML"),
    ],
)
def test_expectations_with_faults_are_refused_with_their_place(text: str, words: str) -> None:
    with pytest.raises(QedgeError, match=words) as error:
        read_expectations(text, "e.toml")
    assert error.value.code == "client.data"


def test_resources_are_written_in_one_way() -> None:
    assert resource_of("node") == Resource(ResourceKind.NODE)
    assert resource_of("app:board") == Resource(ResourceKind.APP, "board")
    assert resource_of("device:v/open") == Resource(ResourceKind.DEVICE, "open", "", "v")
    assert resource_of("device:v/open@doors") == Resource(ResourceKind.DEVICE, "open", "doors", "v")
    for wrong in ("", "node ", "app:", "segment:hall", "device:v", "segment:a/b/c", "node\n"):
        with pytest.raises(QedgeError):
            resource_of(wrong)
    assert Action("publish") is PUBLISH
