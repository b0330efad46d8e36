from __future__ import annotations

import pytest

from qedge.base.errors import QedgeError
from qedge.web.access import Caller, Door, Right, Rules, check_app, check_right, check_site, granted, host_names

RULES = Rules(
    daemon_uid=990,
    uids=frozenset({1000}),
    gids=frozenset({50}),
    apps={1500: frozenset({"dashboard"})},
    hosts=host_names("127.0.0.1", 8000),
)


@pytest.mark.parametrize("uid", [0, 990, 1000])
def test_the_daemons_user_root_and_listed_users_may_do_everything(uid: int) -> None:
    assert granted(Caller(Door.UNIX, uid), RULES) == set(Right)


def test_members_of_a_listed_group_may_do_everything() -> None:
    assert granted(Caller(Door.UNIX, 1234, frozenset({7, 50})), RULES) == set(Right)


@pytest.mark.parametrize(
    "caller", [Caller(Door.UNIX, 1001), Caller(Door.UNIX, 65534, frozenset({65534})), Caller(Door.UNIX)]
)
def test_any_other_user_may_do_nothing(caller: Caller) -> None:
    assert granted(caller, RULES) == set()
    for right in Right:
        with pytest.raises(QedgeError) as refused:
            check_right(caller, right, RULES)
        assert refused.value.code == "access.denied"


def test_the_user_of_an_app_may_act_as_this_app_and_do_nothing_else() -> None:
    app = Caller(Door.UNIX, 1500)
    assert granted(app, RULES) == {Right.PUBLIC, Right.APP}
    check_app(app, "dashboard", RULES)
    for name in ("level-control", "operator", ""):
        with pytest.raises(QedgeError) as refused:
            check_app(app, name, RULES)
        assert refused.value.code == "access.denied"


def test_an_operator_may_act_as_any_app_and_strangers_and_pages_as_none() -> None:
    check_app(Caller(Door.UNIX, 0), "dashboard", RULES)
    for caller in (Caller(Door.UNIX, 1501), Caller(Door.TCP, session=True), Caller(Door.TCP, 1500)):
        with pytest.raises(QedgeError):
            check_app(caller, "dashboard", RULES)
        assert Right.APP not in granted(caller, RULES)


def test_a_uid_means_nothing_over_tcp() -> None:
    assert granted(Caller(Door.TCP, 0), RULES) == {Right.PUBLIC}


def test_a_page_session_never_administers() -> None:
    rights = granted(Caller(Door.TCP, session=True), RULES)
    assert Right.VIEW in rights
    assert Right.ADMIN not in rights


def test_without_a_session_the_answer_says_how_to_get_one() -> None:
    with pytest.raises(QedgeError) as refused:
        check_right(Caller(Door.TCP), Right.VIEW, RULES)
    assert refused.value.code == "access.no_session"
    assert "qedge open" in refused.value.fix


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:8000"},
        {"Host": "LOCALHOST:8000", "Origin": "http://localhost:8000"},
        {"Host": "127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"},
        {"Host": "127.0.0.1:8000", "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
    ],
)
def test_the_own_page_and_plain_programs_pass(headers: dict[str, str]) -> None:
    check_site(headers, RULES, safe=False, navigation=False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:8001"},
        {"Host": "rebound.example:8000"},
        {"Host": "127.0.0.1:8000", "Origin": "https://127.0.0.1:8000"},
        {"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8001"},
        {"Host": "127.0.0.1:8000", "Origin": "null"},
        {"Host": "127.0.0.1:8000", "Sec-Fetch-Site": "same-site"},
        {"Host": "127.0.0.1:8000", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
def test_other_sites_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(QedgeError) as refused:
        check_site(headers, RULES, safe=True, navigation=False)
    assert refused.value.code == "access.bad_origin"


def test_other_sites_may_link_to_the_shell_but_not_frame_it() -> None:
    link = {"Host": "127.0.0.1:8000", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    check_site({**link, "Sec-Fetch-Dest": "document"}, RULES, safe=True, navigation=True)
    with pytest.raises(QedgeError):
        check_site({**link, "Sec-Fetch-Dest": "iframe"}, RULES, safe=True, navigation=True)
    with pytest.raises(QedgeError):
        check_site({**link, "Sec-Fetch-Dest": "document"}, RULES, safe=False, navigation=True)


def test_names_of_an_ipv6_listener_are_bracketed() -> None:
    assert host_names("::1", 9) == {"[::1]:9", "localhost:9"}
    assert "localhost" in host_names("127.0.0.1", 80)
