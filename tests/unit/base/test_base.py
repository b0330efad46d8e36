"""What every room stands on."""

from __future__ import annotations

import json
import os
import pickle
import uuid

import pytest

from qedge.base.backoff import Backoff
from qedge.base.clock import ManualClock
from qedge.base.errors import ERROR_CODES, QedgeError
from qedge.base.ids import DrawnAhead, is_name, is_uuid, uuid7
from qedge.base.log import SCRUBBED, LogConfig, configure, get_logger, scrub
from qedge.base.machine import IllegalTransitionError, StateTable
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.base.units import format_bytes, format_duration
from qedge.wire.jobs import JobState
from qedge.wire.problem import error_of, problem_of


def test_an_error_crosses_the_wire_as_itself() -> None:
    error = QedgeError("job.queue_full", "The queue is full.", fix="Wait.", limit=10)
    back = error_of(problem_of(error))
    assert (back.code, back.message, back.fix, back.details) == (error.code, error.message, error.fix, error.details)
    assert str(pickle.loads(pickle.dumps(error))) == "The queue is full. Wait."  # noqa: S301 - our own bytes


def test_a_code_from_a_newer_peer_is_kept_as_a_detail() -> None:
    problem = problem_of(QedgeError("job.queue_full", "x"))
    foreign = type(problem)(type="urn:qedge:error:future.code", title="t", status=500)
    assert error_of(foreign).details == {"remote_code": "future.code"}


def test_an_unknown_code_is_refused_where_it_is_raised() -> None:
    with pytest.raises(ValueError, match="not in ERROR_CODES"):
        QedgeError("no.such", "x")


def test_every_code_has_a_room_a_word_and_a_sentence() -> None:
    for code, spec in ERROR_CODES.items():
        room, _, word = code.partition(".")
        assert room.isidentifier()
        assert word.isidentifier()
        assert spec.meaning.endswith(".")
        assert 400 <= spec.http_status < 600


def test_bytes_that_are_drawn_ahead_are_given_out_once_and_in_few_draws() -> None:
    drawn: list[bytes] = []

    def draw(number: int) -> bytes:
        drawn.append(os.urandom(number))
        return drawn[-1]

    ahead = DrawnAhead(draw, 64)
    given = [ahead(size) for size in (4, 32, 8, 32, 100)]
    assert [len(each) for each in given] == [4, 32, 8, 32, 100]
    assert [len(each) for each in drawn] == [64, 64, 100]
    assert given[:3] == [drawn[0][:4], drawn[0][4:36], drawn[0][36:44]]
    assert given[3:] == [drawn[1][:32], drawn[2]]


def test_uuid7_sorts_by_time_and_is_a_version_7_uuid() -> None:
    early, late = (uuid7(ms * 1_000_000, lambda n: b"\xff" * n) for ms in (1000, 1001))
    assert early < late
    assert uuid.UUID(early).version == 7
    assert uuid.UUID(early).variant == uuid.RFC_4122
    assert is_uuid(early)
    assert not is_uuid(early.upper())
    assert not is_uuid("x")


@pytest.mark.parametrize(
    ("text", "legal"),
    [("node-1", True), ("a" * 36, True), ("a" * 37, False), ("", False), ("a/b", False), ("ä", False), ("a\n", False)],
)
def test_names_are_one_topic_segment(text: str, legal: bool) -> None:
    assert is_name(text) is legal


def test_backoff_doubles_its_ceiling_up_to_the_cap() -> None:
    backoff = Backoff(base_s=0.5, cap_s=10)
    assert [backoff.delay_s(attempt, 1.0) for attempt in (0, 1, 2, 20, 10_000)] == [0.5, 1.0, 2.0, 10.0, 10.0]
    assert backoff.delay_s(3, 0.0) == 0.0


def test_a_state_table_refuses_what_it_does_not_list() -> None:
    table = StateTable(
        "job", JobState.QUEUED, frozenset({JobState.DONE}), {(JobState.QUEUED, JobState.DONE): JobState.DONE}
    )
    assert table.next(JobState.QUEUED, JobState.DONE) is JobState.DONE
    assert "queued --> done" in table.mermaid()
    with pytest.raises(IllegalTransitionError):
        table.next(JobState.DONE, JobState.QUEUED)
    with pytest.raises(ValueError, match="way out"):
        StateTable("bad", JobState.QUEUED, frozenset({JobState.DONE}), {(JobState.DONE, JobState.DONE): JobState.DONE})


def test_metrics_refuse_unknown_names_and_wrong_labels() -> None:
    metrics = Metrics()
    metrics.add("qedge_jobs_submitted_total", ("accepted",))
    metrics.observe("qedge_job_seconds", 0.003, ("run",))
    metrics.observe("qedge_job_seconds", 1e9, ("run",))
    assert metrics.value("qedge_jobs_submitted_total", ("accepted",)) == 1
    histogram = metrics.histograms("qedge_job_seconds")[("run",)]
    assert histogram.count == 2
    assert histogram.counts[-1] == 1
    with pytest.raises(ValueError, match="labels"):
        metrics.add("qedge_jobs_submitted_total")
    with pytest.raises(KeyError):
        metrics.add("qedge_unknown")


def test_secrets_are_scrubbed_at_any_depth() -> None:
    clean = scrub(
        {"password": "p", "outer": {"api_token": "t", "url": "mqtt://u:pw@h:1/"}, "raw": b"1234", "l": [b"1"]}
    )
    assert clean == {
        "password": SCRUBBED,
        "outer": {"api_token": SCRUBBED, "url": "mqtt://u:***@h:1/"},
        "raw": "<4 bytes>",
        "l": ["<1 bytes>"],
    }


def test_log_lines_are_json_with_scrubbed_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogConfig(format="json"))
    get_logger("test").info("daemon.starting", node="n", token="hush")
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "daemon.starting"
    assert line["token"] == SCRUBBED
    assert line["room"] == "test"


def test_clocks_move_forward_and_a_step_shows_only_on_the_wall() -> None:
    system = SystemClock()
    assert system.now_ns() <= system.now_ns()
    clock = ManualClock()
    clock.advance_s(1.5)
    clock.step_utc_s(-10)
    assert clock.now_ns() == 1_500_000_000
    assert clock.utc_ns() == 1_800_000_000_000_000_000 - 8_500_000_000


def test_numbers_for_people() -> None:
    assert format_bytes(1536) == "1.5 KiB"
    assert format_bytes(10) == "10 B"
    assert [format_duration(s) for s in (0.00042, 0.0125, 1.5, 75, 7260)] == [
        "420 µs",
        "12.5 ms",
        "1.5 s",
        "1 min 15 s",
        "2 h 1 min",
    ]
