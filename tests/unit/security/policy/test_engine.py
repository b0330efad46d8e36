"""Claims about the policy in force."""

from __future__ import annotations

import pytest

from qedge.base.errors import QedgeError
from qedge.security.model import Decision, Reason
from qedge.security.policy.engine import PolicyEngine
from tests.unit.security.policy.policy_site import HEAD, PUBLISH, REPORT, S, channel, meter, policy, rule


def test_an_engine_denies_everything_until_it_has_a_policy() -> None:
    engine = PolicyEngine()
    assert engine.decide(meter(), PUBLISH, channel(), 0, 0).reason is Reason.NO_RULE
    engine.load((HEAD + REPORT).encode())
    assert engine.decide(meter(), PUBLISH, channel(), 0, 0).allowed


def test_a_policy_with_faults_leaves_the_old_one_in_force() -> None:
    engine = PolicyEngine()
    engine.load((HEAD + REPORT).encode())
    with pytest.raises(QedgeError) as error:
        engine.load((HEAD + REPORT + 'allow = "true"\n').encode())
    assert error.value.code == "policy.invalid"
    assert engine.decide(meter(), PUBLISH, channel(), 0, 0).rule == "report"


def test_a_swap_counts_from_the_next_request_on_for_subjects_that_were_decided_before() -> None:
    engine, subject = PolicyEngine(), meter()
    engine.load((HEAD + REPORT).encode())
    judge = engine.decide
    assert judge(subject, PUBLISH, channel(), 0, 0).allowed
    engine.swap(engine.compile(policy(REPORT, rule("no", "forbid"))))
    assert judge(subject, PUBLISH, channel(), 0, 0).rule == "no"


def test_rates_go_on_counting_through_a_reload() -> None:
    engine, subject = PolicyEngine(), meter()
    text = (HEAD + rule("r", rest="rate = { per_second = 1, burst = 2 }")).encode()
    engine.load(text)
    assert [engine.decide(subject, PUBLISH, channel(), 0, 0).allowed for _ in range(3)] == [True, True, False]
    engine.load(text)
    assert engine.decide(subject, PUBLISH, channel(), 0, 0).reason is Reason.RATE
    assert engine.decide(subject, PUBLISH, channel(), S, 0).allowed


def test_those_who_listen_hear_every_request_until_they_stop() -> None:
    engine, heard = PolicyEngine(), []

    def note(*each: object) -> None:
        heard.append(each)

    stop = engine.listen(note)
    subject = meter()
    decision = engine.decide(subject, PUBLISH, channel(), 5, 7)
    assert heard == [(subject, PUBLISH, channel(), 5, 7, decision)]
    stop()
    assert engine.decide(None, PUBLISH, channel(), 5, 7) == Decision(False, Reason.UNKNOWN)
    assert len(heard) == 1


def test_no_more_than_four_listen_at_a_time() -> None:
    engine = PolicyEngine()
    stops = [engine.listen(lambda *_: None) for _ in range(4)]
    with pytest.raises(ValueError, match="too many"):
        engine.listen(lambda *_: None)
    stops[0]()
    engine.listen(lambda *_: None)
