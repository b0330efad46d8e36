"""What became of commands, from reports that come late, twice and out of order."""

from __future__ import annotations

import msgspec
import pytest

from qedge.client.fleet_tool.model import Ending
from qedge.client.fleet_tool.watching import SLACK_NS, Watch
from qedge.wire.commands import CommandReport, CommandRequest

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
ID = "00000000-0000-7000-8000-000000000001"


def request(limit_s: float = 0.0) -> CommandRequest:
    return CommandRequest(ID, "home", "a", "drain", 1, NOW, NOW + 60 * SECOND, time_limit_s=limit_s)


def report(state: str, revision: int, **more: object) -> CommandReport:
    fields: dict[str, object] = {"id": ID, "kind": "drain", "state": state, "revision": revision, "utc_ns": NOW}
    return CommandReport(**(fields | {"operator": "ann"} | more))  # type: ignore[arg-type] # fields of the struct


@pytest.fixture
def watch() -> Watch:
    watch = Watch()
    watch.sent(request(), "ann")
    return watch


def standing(watch: Watch) -> Ending:
    view = watch.view("a", ID)
    assert view is not None
    return view.ending


def test_only_a_later_revision_says_something_new_and_nothing_follows_an_end(watch: Watch) -> None:
    assert watch.reported("a", report("executing", 2, progress=0.5)) is not None
    assert watch.reported("a", report("executing", 2)) is None
    assert watch.reported("a", report("init", 1)) is None
    assert watch.reported("a", report("dancing", 3)) is not None
    assert standing(watch) is Ending.UNDER_WAY
    assert watch.reported("a", report("failed", 4, reason="no room")) is not None
    assert watch.reported("a", report("successful", 5)) is None
    assert (standing(watch), watch.open) == (Ending.FAILED, 0)


def test_a_report_of_another_node_or_command_is_none_of_ours(watch: Watch) -> None:
    assert watch.reported("b", report("failed", 1)) is None
    assert watch.sent(request(), "bob").operator == "ann"
    assert watch.open == 1


def test_what_nobody_began_in_time_has_expired_unless_a_late_word_says_otherwise(watch: Watch) -> None:
    assert watch.overdue(NOW + 60 * SECOND + SLACK_NS) == []
    assert [view.ending for view in watch.overdue(NOW + 61 * SECOND + SLACK_NS)] == [Ending.EXPIRED]
    assert watch.open == 0
    assert watch.reported("a", report("successful", 1)) is not None
    assert (standing(watch), watch.open) == (Ending.SUCCESSFUL, 0)


def test_what_was_begun_is_silent_after_its_time_limit_and_never_without_one() -> None:
    for limit_s, found in ((10.0, [Ending.SILENT]), (0.0, [])):
        watch = Watch()
        watch.sent(request(limit_s), "ann")
        watch.reported("a", report("executing", 1))
        assert watch.overdue(NOW + 65 * SECOND + SLACK_NS) == []
        assert [view.ending for view in watch.overdue(NOW + 9999 * SECOND)] == found


def test_only_what_waits_can_be_withdrawn(watch: Watch) -> None:
    assert watch.withdrawn("a", ID, NOW) is not None
    assert (standing(watch), watch.open) == (Ending.WITHDRAWN, 0)
    assert watch.reported("a", report("executing", 1)) is not None
    assert (standing(watch), watch.open) == (Ending.UNDER_WAY, 1)
    assert watch.withdrawn("a", ID, NOW) is None


def test_what_is_for_a_key_that_its_node_has_no_more_ends_unless_the_node_speaks_of_it(watch: Watch) -> None:
    bound = msgspec.structs.replace(request(), id=ID[:-1] + "2", node_key="a" * 32, expires_utc_ns=NOW + 9999 * SECOND)
    watch.sent(bound, "ann")
    assert watch.overdue(NOW, {"a": "a" * 32}.get) == []
    assert watch.overdue(NOW, {"a": "b" * 32}.get) == []
    assert watch.overdue(NOW + SLACK_NS, {"a": "b" * 32}.get) == []
    (ended,) = watch.overdue(NOW + SLACK_NS + 1, {"a": "b" * 32}.get)
    assert (ended.id, ended.ending, ended.code) == (bound.id, Ending.OUTLIVED, "order.key_changed")
    assert "Send it again" in ended.reason
    late = watch.reported("a", report("successful", 3, id=bound.id))
    assert late is not None
    assert (late.ending, late.code, late.reason) == (Ending.SUCCESSFUL, "", "")


def test_what_was_begun_without_a_limit_is_silent_after_the_one_that_its_node_gives_the_kind(watch: Watch) -> None:
    watch.reported("a", report("executing", 1))
    limits = {("a", "drain"): 100.0}

    def limit_of(node: str, kind: str) -> float:
        return limits.get((node, kind), 0.0)

    assert watch.overdue(NOW + 160 * SECOND + SLACK_NS, limit_of=limit_of) == []
    assert [view.ending for view in watch.overdue(NOW + 161 * SECOND + SLACK_NS, limit_of=limit_of)] == [Ending.SILENT]
