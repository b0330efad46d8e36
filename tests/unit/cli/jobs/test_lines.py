from __future__ import annotations

import pytest

from qedge.base.errors import QedgeError
from qedge.cli.jobs.lines import JobFilter, age, list_lines, progress, show_lines, since
from qedge.cli.node.events import event_line, kinds_of, wanted
from qedge.cli.terminal import Terminal
from qedge.wire.events import EventGap, NodeEvent
from qedge.wire.jobs import JobEstimate, JobResult, JobState, JobView
from qedge.wire.problem import problem_of

S = 1_000_000_000
NOW = 1_800_000_000 * S
JOB = JobView(
    "019aca00-0000-7000-8000-00000000abcd",
    JobState.DONE,
    100,
    NOW - 90 * S,
    "uid:0",
    qpu="qpu",
    node="box-2",
    started_utc_ns=NOW - 80 * S,
    ended_utc_ns=NOW - 78 * S,
    attempts=2,
    tags=("lab",),
    estimate=JobEstimate(3, 3, 9, 100, 4096, 4.0, 64, "stabilizer"),
    result=JobResult({"000": 100}, 100, 7, (), {"parse": 0.0002, "run": 1.9}, {}),
)


def test_a_filter_lets_through_what_fits_all_of_it() -> None:
    assert JobFilter().wants(JOB)
    assert JobFilter({"done"}, "uid:0", "lab", "box-2", NOW - 100 * S).wants(JOB)
    for other in (
        JobFilter({"failed"}),
        JobFilter(client="uid:1"),
        JobFilter(tag="la"),
        JobFilter(node="box-1"),
        JobFilter(since_utc_ns=NOW - 10 * S),
    ):
        assert not other.wants(JOB)
    here = JobView("x", JobState.QUEUED, 1, NOW, "uid:0")
    assert JobFilter(node="box-1").wants(here, own="box-1")


def test_spans_and_ages_are_read_and_written_in_one_unit() -> None:
    assert [(NOW - since(text, NOW)) // S for text in ("90s", "10m", "2h", "1d", "1.5h")] == [
        90,
        600,
        7200,
        86400,
        5400,
    ]
    assert since("", NOW) == 0
    for bad in ("5", "m", "-5m", "1w", "1e3s"):
        with pytest.raises(QedgeError) as refused:
            since(bad, NOW)
        assert refused.value.code == "client.usage"
    ages = [age(NOW - seconds * S, NOW) for seconds in (0, 59, 61, 7200, 200_000)]
    assert ages == ["0 s", "59 s", "1 min", "2 h", "2 d"]
    assert age(0, NOW) == "-"
    assert age(NOW + S, NOW) == "0 s"  # a clock that is behind


def test_a_job_in_full_tells_its_course_where_it_ran_and_the_time_of_its_stages() -> None:
    text = "\n".join(show_lines(JOB, Terminal(), NOW))
    for words in (
        "+10.0 s  started: node box-2, QPU qpu",
        "attempt 2",
        "+2.0 s  done",
        "stabilizer",
        "parse",
        "run",
        "lab",
    ):
        assert words in text
    waiting = JobView("y", JobState.QUEUED, 1, NOW - 5 * S, "uid:0", queue_position=3)
    assert "5.0 s ago  still queued for any, 3 before it" in "\n".join(show_lines(waiting, Terminal(), NOW))


def test_a_running_job_is_as_far_as_its_estimate_says_and_never_done() -> None:
    assert progress(JOB, NOW) == -1
    running = JobView("z", JobState.RUNNING, 1, NOW, "c", started_utc_ns=NOW, estimate=JOB.estimate)
    assert [progress(running, NOW + seconds * S) for seconds in (0, 1, 400)] == [0, 0.25, 0.99]


def test_a_list_cuts_ids_only_where_it_is_told_to() -> None:
    assert JOB.id in list_lines([JOB], Terminal(), NOW, short=False)[1]
    line = list_lines([JOB], Terminal(), NOW, short=True)[1]
    assert line.startswith("00000000abcd")
    assert "1 min" in line


def test_events_are_chosen_by_kind_and_level() -> None:
    dead = NodeEvent("peer.dead", NOW, "error", "mesh", {"peer": "box-3\x1b[2J", "none": None})
    failed = JobView("j", JobState.FAILED, 1, NOW, "c", error=problem_of(QedgeError("worker.crashed", "It died.")))
    assert wanted(dead, kinds_of(["peer,job"]), "warning")
    assert not wanted(dead, kinds_of(["qkd"]), "info")
    assert not wanted(JOB, frozenset(), "warning")
    assert wanted(failed, kinds_of(["job"]), "warning")
    assert not wanted(failed, frozenset(), "error")
    assert wanted(EventGap(3), kinds_of(["qkd"]), "error")
    with pytest.raises(QedgeError) as refused:
        kinds_of(["nothing"])
    assert "peer" in refused.value.fix
    line = event_line(dead, Terminal(color=True))
    assert "peer=box-3" in line
    assert "\x1b[2J" not in line
    assert "none" not in line
    assert "code=worker.crashed" in event_line(failed, Terminal())
    assert event_line(EventGap(-1), Terminal()) == "… the node was started anew"
    assert len(event_line(dead, Terminal(), width=40)) <= 40
