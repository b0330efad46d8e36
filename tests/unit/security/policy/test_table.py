"""Claims about decisions."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from qedge.security.model import Action, Decision, Reason, Resource, ResourceKind, Subject, SubjectKind
from qedge.security.policy import table as table_module
from qedge.security.policy.table import PolicyTable
from tests.unit.security.policy.policy_site import (
    LEASE_NS,
    NOON_UTC_NS,
    PUBLISH,
    REPORT,
    S,
    channel,
    meter,
    policy,
    rule,
)

HOUR_NS = 3600 * S


def decide(table: PolicyTable, subject: Subject | None, now_ns: int = 0, utc_ns: int = NOON_UTC_NS) -> Decision:
    return table.decide(subject, PUBLISH, channel(), now_ns, utc_ns)


def test_without_a_policy_everything_is_denied() -> None:
    table = PolicyTable()
    assert decide(table, meter()) == Decision(False, Reason.NO_RULE)
    assert table.decide(meter(), Action.CONNECT, Resource(ResourceKind.NODE), 0, 0) == Decision(False, Reason.NO_RULE)


def test_a_permit_that_holds_is_named() -> None:
    assert decide(PolicyTable(policy(REPORT)), meter()) == Decision(True, Reason.ALLOWED, "report")


def test_the_first_reason_that_applies_counts_in_the_order_of_the_model() -> None:
    conditions = (
        'when = { trust = 90, time = [{ from = "13:00" }], locations = ["lab"], posture = ["signed"], qkd = true }'
    )
    table = PolicyTable(
        policy(
            rule("bar", "forbid", 'when = { locations = ["cellar"] }'),
            rule("may", rest=conditions + "\nrate = { per_second = 0.001 }"),
        )
    )
    subject = meter(
        revoked=True,
        quarantined=True,
        lease_until_ns=0,
        location="cellar",
        device_class="tap",
        segment="doors",
        trust=0,
    )
    assert decide(table, None) == Decision(False, Reason.UNKNOWN)
    seen = []
    for mended in (
        {"revoked": False},
        {"quarantined": False},
        {"lease_until_ns": LEASE_NS},
        {"device_class": "meter"},
        {"location": ""},
        {"segment": "hall"},
        {"trust": 90},
        {},  # an hour later
        {"location": "lab"},
        {"posture": frozenset({"signed", "more"})},
        {"qkd_backed": True},
        {},
    ):
        utc_ns = NOON_UTC_NS + (HOUR_NS if len(seen) >= 8 else 0)
        seen.append(decide(table, subject, 0, utc_ns).reason)
        for key, value in mended.items():
            setattr(subject, key, value)
        subject.epoch += 1
    assert seen == [
        Reason.REVOKED,
        Reason.QUARANTINED,
        Reason.LEASE,
        Reason.NO_RULE,
        Reason.FORBIDDEN,
        Reason.SEGMENT,
        Reason.TRUST,
        Reason.TIME,
        Reason.LOCATION,
        Reason.POSTURE,
        Reason.QKD,
        Reason.ALLOWED,
    ]
    assert decide(table, subject, 0, NOON_UTC_NS + HOUR_NS) == Decision(False, Reason.RATE, "may")


def test_a_forbid_wins_over_every_permit_wherever_it_stands() -> None:
    for rules in ((REPORT, rule("no", "forbid")), (rule("no", "forbid"), REPORT)):
        assert decide(PolicyTable(policy(*rules)), meter()) == Decision(False, Reason.FORBIDDEN, "no")


def test_a_forbid_with_unless_spares_those_for_whom_it_holds() -> None:
    table = PolicyTable(policy(REPORT, rule("no", "forbid", 'unless = { trust = 90, posture = ["signed"] }')))
    assert decide(table, meter(trust=95)).reason is Reason.FORBIDDEN
    assert decide(table, meter(trust=95, posture=frozenset({"signed"}))).allowed


def test_a_forbid_during_hours_of_which_some_are_spared_follows_the_clock() -> None:
    rest = 'when = { time = [{ from = "08:00", until = "18:00" }] }\n'
    rest += 'unless = { time = [{ from = "12:00", until = "13:00" }] }'
    table = PolicyTable(policy(REPORT, rule("no", "forbid", rest)))
    subject = meter()
    reasons = [decide(table, subject, 0, NOON_UTC_NS + hours * HOUR_NS).reason for hours in (-6, -1, 0, 1, 7)]
    allowed, forbidden = Reason.ALLOWED, Reason.FORBIDDEN
    assert reasons == [allowed, forbidden, allowed, forbidden, allowed]


def test_the_permit_that_came_furthest_is_named_when_all_fail() -> None:
    table = PolicyTable(policy(rule("a", rest="when = { trust = 99 }"), rule("b", rest="when = { qkd = true }")))
    assert decide(table, meter()) == Decision(False, Reason.QKD, "b")


def test_permits_are_asked_in_order_and_a_rate_that_is_used_up_leaves_the_next() -> None:
    table = PolicyTable(policy(rule("slow", rest="rate = { per_second = 1, burst = 2 }"), rule("rest", rest="")))
    subject = meter()
    assert [decide(table, subject).rule for _ in range(4)] == ["slow", "slow", "rest", "rest"]


# Segments and resources


def test_a_device_reaches_its_own_segment_only_unless_a_rule_crosses() -> None:
    table = PolicyTable(policy(REPORT))
    assert table.decide(meter(), PUBLISH, channel("x", "doors"), 0, 0) == Decision(False, Reason.SEGMENT, "report")
    crossing = PolicyTable(policy(REPORT + "crossing = true\n"))
    assert crossing.decide(meter(), PUBLISH, channel("x", "doors"), 0, 0).allowed


def test_segments_and_channels_that_the_policy_does_not_know_are_denied_even_for_all() -> None:
    table = PolicyTable(policy(REPORT + "crossing = true\n"))
    assert table.decide(meter(), PUBLISH, channel("temp", "attic"), 0, 0).reason is Reason.NO_RULE
    assert table.decide(meter(), PUBLISH, channel("noise", "hall"), 0, 0).reason is Reason.NO_RULE
    assert table.decide(meter(segment=""), PUBLISH, channel("temp", ""), 0, 0).reason is Reason.NO_RULE


def test_commands_of_devices_are_named_by_device_or_by_its_segment() -> None:
    head = '[rules.{}]\neffect = "permit"\nsubjects = {{ kinds = ["app"] }}\nactions = ["command"]\ncrossing = true\n'
    table = PolicyTable(
        policy(
            head.format("by-device") + 'resources = { devices = ["v1"], commands = ["open"] }\n',
            head.format("by-segment") + 'resources = { segments = ["doors"], commands = ["close"] }\n',
        )
    )
    app = Subject("desk", SubjectKind.APP, lease_until_ns=LEASE_NS)

    def asked(command: str, segment: str, owner: str) -> str:
        return table.decide(app, Action.COMMAND, Resource(ResourceKind.DEVICE, command, segment, owner), 0, 0).rule

    assert asked("open", "hall", "v1") == asked("open", "unknown", "v1") == "by-device"
    assert asked("open", "hall", "v2") == ""
    assert asked("close", "doors", "v9") == "by-segment"
    assert asked("close", "hall", "v9") == asked("close", "unknown", "v9") == ""


def test_all_segments_are_those_that_are_known_to_a_permit_and_whatever_there_is_to_a_forbid() -> None:
    head = '[rules.{}]\neffect = "{}"\nsubjects = {{ kinds = ["app"] }}\nactions = ["command"]\n'
    in_all = 'resources = { segments = ["*"], commands = ["*"] }\n'
    may = head.format("may", "permit") + "crossing = true\n"
    app = Subject("desk", SubjectKind.APP, lease_until_ns=LEASE_NS)
    nowhere = Resource(ResourceKind.DEVICE, "open", "nowhere", "v1")
    assert PolicyTable(policy(may + in_all)).decide(app, Action.COMMAND, nowhere, 0, 0).reason is Reason.NO_RULE
    by_device = may + 'resources = { devices = ["*"], commands = ["*"] }\n'
    assert PolicyTable(policy(by_device)).decide(app, Action.COMMAND, nowhere, 0, 0).allowed
    stopped = PolicyTable(policy(by_device, head.format("no", "forbid") + in_all))
    assert stopped.decide(app, Action.COMMAND, nowhere, 0, 0).rule == "no"


def test_a_rule_for_devices_says_nothing_of_an_app_of_the_same_id() -> None:
    text = REPORT.replace('classes = ["meter"]', 'ids = ["m1"]')
    subject = meter(kind=SubjectKind.APP)
    assert decide(PolicyTable(policy(text)), subject).reason is Reason.NO_RULE


def test_groups_and_attributes_are_matched_one_of_many_and_all_of_several() -> None:
    text = REPORT.replace(
        'classes = ["meter"]', 'groups = ["a", "b"], attributes = { floor = ["1", "2"], maker = "x" }'
    )
    table = PolicyTable(policy(text))
    good = {"groups": frozenset({"b", "z"}), "attributes": {"floor": "2", "maker": "x", "more": "y"}}
    assert decide(table, meter(**good)).allowed
    assert not decide(table, meter(**{**good, "groups": frozenset({"z"})})).allowed
    assert not decide(table, meter(**{**good, "attributes": {"floor": "2"}})).allowed
    assert not decide(table, meter(**{**good, "attributes": {"floor": "3", "maker": "x"}})).allowed


# What is kept, and what is not


@pytest.mark.parametrize("field", ["quarantined", "revoked"])
def test_a_verdict_against_a_subject_counts_at_once_even_if_its_epoch_stood_still(field: str) -> None:
    table, subject = PolicyTable(policy(REPORT)), meter()
    assert decide(table, subject).allowed
    setattr(subject, field, True)
    assert not decide(table, subject).allowed


def test_a_lease_ends_on_time_whatever_was_decided_before() -> None:
    table, subject = PolicyTable(policy(REPORT)), meter(lease_until_ns=5 * S)
    assert decide(table, subject, 5 * S - 1).allowed
    assert decide(table, subject, 5 * S) == Decision(False, Reason.LEASE)
    subject.lease_until_ns = 9 * S
    assert decide(table, subject, 5 * S).allowed


def test_a_change_of_a_subject_counts_with_its_epoch() -> None:
    table, subject = PolicyTable(policy(rule("r", rest="when = { trust = 50 }"))), meter()
    assert decide(table, subject).allowed
    subject.trust, subject.epoch = 40, subject.epoch + 1
    assert decide(table, subject).reason is Reason.TRUST
    subject.trust, subject.epoch = 60, subject.epoch + 1
    assert decide(table, subject).allowed


def test_time_windows_open_and_close_between_two_requests() -> None:
    table = PolicyTable(policy(rule("r", rest='when = { time = [{ from = "12:00", until = "12:01" }] }')))
    subject = meter()
    asked = [decide(table, subject, 0, NOON_UTC_NS + offset).reason for offset in (-1, 0, 60 * S - 1, 60 * S, 0)]
    assert asked == [Reason.TIME, Reason.ALLOWED, Reason.ALLOWED, Reason.TIME, Reason.ALLOWED]


def test_rates_count_for_each_subject_and_rule_and_come_back_with_time() -> None:
    table = PolicyTable(policy(rule("r", rest="rate = { per_second = 2, burst = 3 }")))
    first, second = meter("m1"), meter("m2")
    assert [decide(table, first).allowed for _ in range(4)] == [True, True, True, False]
    assert decide(table, second).allowed
    assert not decide(table, first, S // 2 - 1).allowed
    assert decide(table, first, S // 2).allowed
    assert [decide(table, first, 100 * S).allowed for _ in range(4)] == [True, True, True, False]


def test_a_changed_subject_does_not_get_a_new_burst() -> None:
    table, subject = PolicyTable(policy(rule("r", rest="rate = { per_second = 1 }"))), meter()
    assert decide(table, subject).allowed
    subject.trust, subject.epoch = 81, 1
    assert decide(table, subject).reason is Reason.RATE
    assert decide(table, meter()).reason is Reason.RATE, "nor does another object of the same id"


def test_a_denied_request_does_not_use_up_a_rate() -> None:
    rest = 'rate = { per_second = 1 }\nwhen = { time = [{ from = "12:00" }] }'
    table, subject = PolicyTable(policy(rule("r", rest=rest))), meter()
    assert [decide(table, subject, 0, NOON_UTC_NS - 1).reason for _ in range(3)] == [Reason.TIME] * 3
    assert decide(table, subject).allowed


def test_what_is_kept_of_a_subject_goes_with_it() -> None:
    table, subject = PolicyTable(policy(REPORT)), meter()
    held = sys.getrefcount(subject)
    assert decide(table, subject).allowed
    assert sys.getrefcount(subject) == held


def test_what_one_table_has_settled_says_nothing_to_another() -> None:
    first, second, subject = PolicyTable(policy(REPORT)), PolicyTable(), meter()
    resource = channel()
    asked = [each.decide(subject, PUBLISH, resource, 0, 0).reason for each in (first, second, first, second)]
    assert asked == [first.decide(meter(), PUBLISH, resource, 0, 0).reason, Reason.NO_RULE] * 2
    assert asked[0] is not Reason.NO_RULE


def test_a_copy_of_a_subject_has_nothing_settled() -> None:
    table, subject = PolicyTable(policy(REPORT)), meter()
    assert decide(table, subject).allowed
    assert replace(subject).settled is None


def test_the_last_thing_asked_is_known_by_itself_and_not_by_its_likeness() -> None:
    table, subject = PolicyTable(policy(REPORT)), meter(segment="doors")
    permitted, foreign = channel("c", "doors"), channel("c", "elsewhere")
    for _ in range(2):
        assert table.decide(subject, PUBLISH, permitted, 0, 0).allowed
        assert not table.decide(subject, Action.COMMAND, permitted, 0, 0).allowed
        assert not table.decide(subject, PUBLISH, foreign, 0, 0).allowed


def test_a_device_that_asks_for_a_thousand_channels_takes_no_more_memory_than_for_sixty_four() -> None:
    table, subject = PolicyTable(policy(REPORT)), meter(segment="doors")
    for number in range(1000):
        assert table.decide(subject, PUBLISH, channel(f"c{number}", "doors"), 0, 0).allowed
    assert isinstance(subject.settled, table_module._Known)
    assert len(subject.settled.verdicts) <= table_module.MAX_VERDICTS


def test_wall_time_that_is_no_time_is_taken_for_the_nearest_end_and_raises_nothing() -> None:
    table = PolicyTable(policy(rule("r", rest='when = { time = [{ from = "12:00" }], zone = "Asia/Tokyo" }')))
    for utc_ns in (-(2**70), -1, 0, 2**63 - 1, 2**70):
        assert decide(table, meter(), 0, utc_ns).reason in (Reason.TIME, Reason.ALLOWED)


def test_a_kind_of_resource_from_elsewhere_matches_nothing() -> None:
    table = PolicyTable(
        policy('[rules.c]\neffect="permit"\nsubjects.kinds=["device"]\nactions=["connect"]\nresources.node=true\n')
    )
    assert table.decide(meter(), Action.CONNECT, Resource(ResourceKind.NODE), 0, 0).allowed
    odd = Resource("planet")  # type: ignore[arg-type]  # what the type forbids must still deny
    assert table.decide(meter(), Action.CONNECT, odd, 0, 0).reason is Reason.NO_RULE
