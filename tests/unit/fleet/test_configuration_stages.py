"""Claims about the rules of staged configuration: serials, the book, the health gate."""

from __future__ import annotations

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.base.machine import IllegalTransitionError
from qedge.fleet.configuration import stages
from qedge.fleet.configuration.gate import HealthGate, Vitals, complaints
from qedge.fleet.configuration.model import Baseline, ConfigurationBook, ConfigurationLayer
from qedge.fleet.configuration.settings import (
    drifted,
    section_digests,
    setting_rows,
    settings_digest,
    unzip_rows,
    zip_rows,
)
from qedge.wire.configuration import ConfigurationStep

SECOND = 1_000_000_000
TRIAL = stages.Trial("command", Baseline(("qpu",), (), (), True), 10.0, 1.0, 2, 7)


def layer(serial: int) -> ConfigurationLayer:
    return ConfigurationLayer.of(serial, f"# {serial}\n")


def applied(book: ConfigurationBook, serial: int) -> ConfigurationBook:
    book = stages.begin(stages.stage(book, layer(serial)), serial, layer(serial).sha256, TRIAL)
    return stages.well(stages.written(book), {"log": "a"}, "digest", 9)


def code_of(refused: pytest.ExceptionInfo[QedgeError]) -> str:
    return refused.value.code


def test_a_serial_counts_once_and_only_upwards() -> None:
    book = stages.stage(ConfigurationBook(), layer(5))
    assert stages.stage(book, layer(5)) == book, "the same layer said again is the same layer"
    for serial, text in ((5, "other"), (4, "lower")):
        with pytest.raises(QedgeError) as refused:
            stages.stage(book, ConfigurationLayer.of(serial, text))
        assert code_of(refused) == "configuration.stale"
    assert stages.stage(book, layer(6)).staged == layer(6)


def test_what_was_applied_or_undone_is_never_applied_again_under_its_serial() -> None:
    book = applied(ConfigurationBook(), 1)
    failed = stages.written(stages.begin(stages.stage(book, layer(2)), 2, "", TRIAL))
    failed = stages.restored(stages.unwell(failed, "configuration.unwell", "why"), 11)
    for known, serial in ((book, 1), (failed, 2), (failed, 1)):
        with pytest.raises(QedgeError) as refused:
            stages.begin(known, serial, "", TRIAL)
        assert code_of(refused) == "configuration.stale"
        with pytest.raises(QedgeError) as refused:
            stages.stage(known, layer(serial))
        assert code_of(refused) == "configuration.stale"


def test_only_what_is_staged_is_applied_and_only_under_its_digest() -> None:
    book = stages.stage(ConfigurationBook(), layer(3))
    for serial, digest in ((4, ""), (3, "0" * 64)):
        with pytest.raises(QedgeError) as refused:
            stages.begin(book, serial, digest, TRIAL)
        assert code_of(refused) == "configuration.not_staged"


def test_one_change_at_a_time() -> None:
    book = stages.begin(stages.stage(ConfigurationBook(), layer(1)), 1, "", TRIAL)
    book = stages.stage(book, layer(2))
    for begin in (lambda: stages.begin(book, 2, "", TRIAL), lambda: stages.begin_rollback(book, 1, TRIAL)):
        with pytest.raises(QedgeError) as refused:
            begin()
        assert code_of(refused) == "configuration.busy"


def test_a_rollback_names_what_is_in_force_and_ends_where_the_fleet_began() -> None:
    book = applied(applied(ConfigurationBook(), 1), 2)
    with pytest.raises(QedgeError) as refused:
        stages.begin_rollback(book, 1, TRIAL)
    assert code_of(refused) == "configuration.nothing_to_undo"
    book = stages.well(stages.written(stages.begin_rollback(book, 2, TRIAL)), {}, "", 1)
    assert book.in_force == layer(1)
    book = stages.well(stages.written(stages.begin_rollback(book, 1, TRIAL)), {}, "", 1)
    assert book.in_force is None
    assert book.highest == 2
    with pytest.raises(QedgeError):
        stages.begin_rollback(book, 1, TRIAL)


def test_the_first_configuration_too_is_undone_after_too_many_starts() -> None:
    book = stages.written(stages.begin(stages.stage(ConfigurationBook(), layer(1)), 1, "", TRIAL))
    for _ in range(TRIAL.max_starts):
        book = stages.started(book)
        assert book.wanted == layer(1)
    book = stages.started(book)
    assert book.change is not None
    assert book.change.step is ConfigurationStep.RESTORING
    assert book.wanted is None
    over = stages.restored(book, 3)
    assert over.last is not None
    assert (over.last.state, over.last.code, over.last.serial) == ("rolled-back", "configuration.no_start", 0)


def test_a_change_that_is_over_has_no_way_on() -> None:
    with pytest.raises(ValueError, match="no change"):
        stages.written(ConfigurationBook())
    book = stages.begin(stages.stage(ConfigurationBook(), layer(1)), 1, "", TRIAL)
    with pytest.raises(IllegalTransitionError):
        stages.well(book, {}, "", 1)


def test_the_book_survives_its_encoding() -> None:
    book = stages.begin(stages.stage(applied(ConfigurationBook(), 1), layer(2)), 2, "", TRIAL)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(book), type=ConfigurationBook) == book


def test_only_what_was_well_or_was_touched_can_complain() -> None:
    before = Vitals({"web": True, "onward": False}, {"qpu": True, "old": False, "mine": False}, connected=True)
    baseline = before.baseline(("mine",))
    after = Vitals({"web": False, "onward": False}, {"qpu": False, "old": False, "mine": False}, connected=False)
    assert complaints(after, baseline) == (
        "service web is not ready",
        "driver mine is down",
        "driver qpu is down",
        "the broker is not connected",
    )
    assert complaints(before, baseline) == ("driver mine is down",)
    alone = Vitals({}, {}, connected=False)
    assert complaints(alone, alone.baseline(())) == ()


def test_a_driver_that_has_not_opened_yet_is_waited_for() -> None:
    now = Vitals({}, {"qpu": False, "broken": False}, connected=True, opening=frozenset({"qpu"}))
    assert complaints(now, now.baseline(())) == ("driver qpu is down",)


def test_the_gate_passes_only_what_stays_well() -> None:
    gate = HealthGate(10.0, 3.0, 0)
    assert gate.look((), 0) is None
    assert gate.look(("bad",), 2 * SECOND) is None
    assert gate.look((), 3 * SECOND) is None
    assert gate.look((), 5 * SECOND) is None
    assert gate.look((), 6 * SECOND) is True


def test_the_gate_closes_at_its_limit_but_waits_for_a_hold_that_began_in_time() -> None:
    gate = HealthGate(10.0, 3.0, 0)
    assert gate.look(("bad",), 9 * SECOND) is None
    assert gate.look(("bad",), 10 * SECOND) is False
    gate = HealthGate(10.0, 3.0, 0)
    assert gate.look((), 9 * SECOND) is None
    assert gate.look((), 11 * SECOND) is None
    assert gate.look((), 12 * SECOND) is True


def test_rows_tell_where_a_setting_stands_and_keep_secrets() -> None:
    values = {"log": {"level": "info"}, "drivers": {"a": {"settings": {"password": "hunter2", "list": [1, 2]}}}}
    places = {("log", "level"): ("a.toml", 3)}
    rows = setting_rows(values, lambda path: places.get(path, ("", 0)))  # type: ignore[call-overload]
    assert [(row.key, row.value, row.file, row.line) for row in rows] == [
        ("log.level", '"info"', "a.toml", 3),
        ("drivers.a.settings.password", '"[scrubbed]"', "", 0),
        ("drivers.a.settings.list", "[1, 2]", "", 0),
    ]
    assert unzip_rows(zip_rows(rows)) == rows


def test_settings_that_are_no_settings_are_refused_by_their_reader() -> None:
    packed = zip_rows(setting_rows({"a": "x" * 5000}, lambda _path: ("", 0)))
    for data, limit in ((b"", 10**6), (packed[:-1], 10**6), (packed, 100)):
        with pytest.raises(ValueError, match="settings"):
            unzip_rows(data, limit)


def test_drift_names_the_sections_that_differ() -> None:
    then = section_digests({"log": {"level": "info"}, "http": {"port": 1}})
    now = section_digests({"log": {"level": "info"}, "http": {"port": 2}, "node": {"name": "x"}})
    assert drifted(then, now) == ("http", "node")
    assert drifted(then, then) == ()
    assert settings_digest(then) != settings_digest(now)
    assert settings_digest(then) == settings_digest(dict(reversed(then.items())))
