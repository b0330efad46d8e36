"""Attacks on policies, one test each, under the number they have in the docs."""

from __future__ import annotations

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.security.model import Action, Reason, Resource, ResourceKind, Subject, SubjectKind
from qedge.security.policy.engine import PolicyEngine
from qedge.security.policy.table import PolicyTable
from qedge.wire.policy import SignedPolicy
from tests.integration.fleet_site import ThrowAwayFleet
from tests.unit.security.policy.policy_site import HEAD, LEASE_NS, PUBLISH, REPORT, channel, meter, policy, rule
from tests.unit.security.policy.test_policy_service import FORBID, WHERE, Box, notice, signed


@pytest.fixture
async def box() -> Box:
    made = Box()
    await made.service.take(signed(5))
    return made


# A05: names that must not be there


@pytest.mark.parametrize(
    "poison",
    [
        'algorithm = "sike"\n' + HEAD,
        HEAD + rule("r", rest='when = { suite = "kyber768" }'),
        HEAD + rule("r", rest='when = { qkd = "prefer" }'),
    ],
)
def test_a05_a_policy_that_names_what_is_not_known_here_is_refused_with_what_is(poison: str) -> None:
    with pytest.raises(QedgeError, match="expected"):
        PolicyEngine().load(poison.encode())


# A10, A11: what a broker keeps


async def test_a10_an_older_or_unsigned_policy_on_the_retained_topic_changes_nothing(box: Box) -> None:
    stranger = signed(6, FORBID, by=ThrowAwayFleet("fleet"))
    outer = msgspec.msgpack.decode(signed(6, FORBID), type=SignedPolicy)
    altered = msgspec.msgpack.encode(msgspec.structs.replace(outer, body=outer.body.replace(b"forbid", b"permit")))
    unsigned = msgspec.msgpack.encode(msgspec.structs.replace(outer, signature=b""))
    for payload in (
        notice(signed(4, FORBID)),
        *map(notice, (stranger, altered, unsigned, signed(6, FORBID, fleet="another"))),
        notice(b"x"),
        b"x",
        signed(6, FORBID),
    ):
        with pytest.raises(QedgeError):
            await box.bus.deliver(WHERE, payload)
    assert box.reason() is Reason.ALLOWED
    assert box.service.view().serial == 5


async def test_a11_an_empty_retained_message_deletes_no_policy(box: Box) -> None:
    with pytest.raises(QedgeError, match="nobody can delete"):
        await box.bus.deliver(WHERE, b"")
    assert box.reason() is Reason.ALLOWED


# A13: topics that are none


@pytest.mark.parametrize("name", ["", "..", "a/b", "#", "+", "*", "\x00", "\ufeff", "x" * 65_536, "temp\n", "Temp"])
def test_a13_a_channel_that_no_segment_has_is_denied_whatever_it_is_called(name: str) -> None:
    table = PolicyTable(policy(REPORT))
    assert table.decide(meter(), PUBLISH, channel(name), 0, 0).reason is Reason.NO_RULE
    assert table.decide(meter(), PUBLISH, channel("temp", name), 0, 0).reason is Reason.NO_RULE


# A32: the document


@pytest.mark.parametrize(
    "poison",
    [
        HEAD + rule("r") + rule("r"),
        HEAD + rule("r", rest='allow = "true"'),
        HEAD + rule("r", rest="allow = true"),
        HEAD + rule("r").replace('"permit"', '"allow"'),
        HEAD + rule("r").replace('"permit"', "true"),
        HEAD + rule("r").replace('effect = "permit"\n', ""),
        HEAD + rule("r").replace("subjects", "subject"),
        HEAD + rule("r").replace('kinds = ["device"], ', ""),
        HEAD + rule("r") + "[[rules]]\n",
        HEAD.replace("version = 1", "version = 1.0"),
    ],
)
def test_a32_a_policy_with_a_fault_is_refused_as_a_whole_and_the_old_one_stays(poison: str) -> None:
    engine = PolicyEngine()
    engine.load((HEAD + REPORT + rule("no", "forbid", "when = { trust = 90 }")).encode())
    with pytest.raises(QedgeError) as error:
        engine.load(poison.encode(), "policy.toml")
    assert error.value.code == "policy.invalid"
    assert engine.decide(meter(trust=80), PUBLISH, channel(), 0, 0).rule == "report"
    assert engine.decide(meter(trust=95), PUBLISH, channel(), 0, 0).rule == "no"


def test_a32_of_rules_that_overlap_the_forbid_wins() -> None:
    wide = rule("wide", "forbid").replace('classes = ["meter"]', 'segments = ["hall"]')
    table = PolicyTable(policy(REPORT, wide, rule("again", rest="crossing = true")))
    assert table.decide(meter(), PUBLISH, channel(), 0, 0).reason is Reason.FORBIDDEN


def test_an_app_that_calls_itself_like_a_device_gets_nothing_of_what_the_device_may() -> None:
    by_id = REPORT.replace('classes = ["meter"]', 'ids = ["m1"]')
    table = PolicyTable(policy(by_id))
    assert table.decide(meter("m1"), PUBLISH, channel(), 0, 0).allowed
    for kind in (SubjectKind.APP, SubjectKind.PEER, SubjectKind.CLOUD):
        other = Subject("m1", kind, "meter", segment="hall", lease_until_ns=LEASE_NS)
        assert table.decide(other, PUBLISH, channel(), 0, 0).reason is Reason.NO_RULE


def test_a_device_that_floods_one_rule_takes_nothing_from_another() -> None:
    table = PolicyTable(policy(rule("r", rest="rate = { per_second = 1, burst = 2 }")))
    flooding, other = meter("m1"), meter("m2")
    for _ in range(10_000):
        table.decide(flooding, PUBLISH, channel(), 0, 0)
    assert table.decide(flooding, PUBLISH, channel(), 0, 0).reason is Reason.RATE
    assert table.decide(other, PUBLISH, channel(), 0, 0).allowed
    assert table.decide(other, Action.CONNECT, Resource(ResourceKind.NODE), 0, 0).reason is Reason.NO_RULE
