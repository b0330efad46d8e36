from __future__ import annotations

import itertools

from qedge.base.clock import ManualClock
from qedge.web.tokens import MAX_LINKS, MAX_SESSIONS, PageTokens


def make() -> tuple[PageTokens, ManualClock]:
    clock, counter = ManualClock(), itertools.count()
    tokens = PageTokens(
        clock=clock, random_bytes=lambda n: next(counter).to_bytes(n, "big"), link_s=60.0, session_s=600.0
    )
    return tokens, clock


def test_a_link_works_once() -> None:
    tokens, _ = make()
    token = tokens.new_link()
    assert tokens.redeem(token) is not None
    assert tokens.redeem(token) is None


def test_a_link_expires() -> None:
    tokens, clock = make()
    token = tokens.new_link()
    clock.advance_s(60)
    assert tokens.redeem(token) is None


def test_a_session_needs_both_secrets_and_expires() -> None:
    tokens, clock = make()
    session = tokens.redeem(tokens.new_link())
    other = tokens.redeem(tokens.new_link())
    assert session is not None
    assert other is not None
    assert tokens.is_session(session.cookie, session.proof)
    assert not tokens.is_session(session.cookie, other.proof)
    assert not tokens.is_session(session.cookie, "")
    assert not tokens.is_session("", "")
    clock.advance_s(600)
    assert not tokens.is_session(session.cookie, session.proof)


def test_a_wall_clock_step_does_not_revive_a_session() -> None:
    tokens, clock = make()
    session = tokens.redeem(tokens.new_link())
    assert session is not None
    clock.advance_s(601)
    clock.step_utc_s(-3600)
    assert not tokens.is_session(session.cookie, session.proof)


def test_a_forgotten_session_is_over() -> None:
    tokens, _ = make()
    session = tokens.redeem(tokens.new_link())
    assert session is not None
    tokens.forget(session.cookie, session.proof)
    assert not tokens.is_session(session.cookie, session.proof)


def test_only_the_newest_links_and_sessions_are_kept() -> None:
    tokens, _ = make()
    links = [tokens.new_link() for _ in range(MAX_LINKS + 1)]
    assert tokens.redeem(links[0]) is None
    assert tokens.redeem(links[-1]) is not None
    sessions = [tokens.redeem(tokens.new_link()) for _ in range(MAX_SESSIONS + 1)]
    assert sessions[0] is not None
    assert not tokens.is_session(sessions[0].cookie, sessions[0].proof)


def test_odd_text_is_no_token() -> None:
    tokens, _ = make()
    tokens.new_link()
    for odd in ("", "\udcff", "ü" * 100, "\0"):
        assert tokens.redeem(odd) is None
        assert not tokens.is_session(odd, odd)
