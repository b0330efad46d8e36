"""An update ends well or leaves things as they were, wherever it is cut off."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.fleet.update.course import Course, other
from qedge.fleet.update.disk import BUNDLE, ENDED, JOURNAL, REQUEST, WHEELS
from qedge.fleet.update.fake import Behaviour, FakeMachine, fake_verify, install
from qedge.fleet.update.model import MAX_STARTS, STEPS, EndedUpdate, Step
from qedge.wire.update import Outcome, UpdateReport
from tests.unit.fleet.update.bundles import Site, make, make_release_key, make_site

BAD = [each for each in Behaviour if each is not Behaviour.WELL]
EFFECTS_BEFORE_GATE = 60
SWITCHED = [Behaviour.HANGS, Behaviour.CRASHES, Behaviour.NOT_READY, Behaviour.MIGRATES_AND_HANGS]


class Killed(BaseException):
    """The updater was killed."""


class Mortal:
    """Passes every call on, and kills the updater right before or after the one of a number."""

    def __init__(self, inner: object, countdown: Iterator[bool]) -> None:
        self._inner = inner
        self._countdown = countdown

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: object, **kwargs: object) -> object:
            if next(self._countdown):
                raise Killed
            result = found(*args, **kwargs)
            if next(self._countdown):
                raise Killed
            return result

        return call


def _never() -> Iterator[bool]:
    while True:
        yield False


def _at(number: int, reached: list[bool]) -> Iterator[bool]:
    for _ in range(number):
        yield False
    reached.append(True)
    yield True
    yield from _never()


def _course(site: Site, machine: FakeMachine, countdown: Iterator[bool] | None = None) -> Course:
    said: Callable[[str], None] = lambda _line: None  # noqa: E731 - a name for nothing
    if countdown is None:
        return Course(site.disk, machine, fake_verify, said)
    disk: Any = Mortal(site.disk, countdown)
    mortal: Any = Mortal(machine, countdown)
    return Course(disk, mortal, fake_verify, said)


def _machine(site: Site, behaviour: Behaviour = Behaviour.WELL) -> FakeMachine:
    machine = FakeMachine(site.disk, {"0.2.0": behaviour})
    machine.boot()
    return machine


def _require_clean(site: Site) -> None:
    layout = site.disk.layout
    assert not (layout.work / JOURNAL).exists()
    assert not (layout.work / BUNDLE).exists()
    assert not (layout.work / WHEELS).exists()
    assert list(layout.staging.iterdir()) == []


def _require_outcome(site: Site, machine: FakeMachine, behaviour: Behaviour) -> UpdateReport:
    report = site.disk.read_report()
    assert report is not None
    well = behaviour is Behaviour.WELL
    assert machine.version == ("0.2.0" if well else "0.1.0"), report
    assert (report.outcome is Outcome.KEPT) == well
    assert os.readlink(site.disk.layout.current) == os.readlink(site.disk.layout.kept) == ("b" if well else "a")
    assert machine.schema == 1
    assert machine.lost == 0
    if not well:
        assert not site.disk.layout.slot("b").exists()
    _require_clean(site)
    remembered = [each.report for each in site.disk.read_ended() if each.report.id == report.id]
    # a report that was cut off is written again, later
    assert [msgspec.structs.replace(each, utc_ns=report.utc_ns) for each in remembered] == [report]
    return report


def test_a_good_update_is_kept_and_the_old_version_stays_beside_it(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    machine = _machine(site)
    site.ask(make(tmp_path, site.secret))
    report = _course(site, machine).run()
    assert report == _require_outcome(site, machine, Behaviour.WELL)
    assert (report.id, report.version, report.previous) == ("order-1", "0.2.0", "0.1.0")
    assert site.disk.version_of("a") == "0.1.0"
    assert _course(site, machine).run() is None


@pytest.mark.parametrize("behaviour", BAD)
def test_a_bad_version_leaves_the_old_one_running(tmp_path: Path, behaviour: Behaviour) -> None:
    site = make_site(tmp_path)
    machine = _machine(site, behaviour)
    site.ask(make(tmp_path, site.secret))
    report = _course(site, machine).run()
    assert report == _require_outcome(site, machine, behaviour)
    switched = behaviour in SWITCHED
    assert report.outcome is (Outcome.ROLLED_BACK if switched else Outcome.REFUSED)
    assert report.databases == (("qedge.sqlite3",) if behaviour is Behaviour.MIGRATES_AND_HANGS else ())
    assert (0 < report.gate_s < report.down_s <= 60) == switched


def _cut_off_everywhere(tmp_path: Path, behaviour: Behaviour, *, power_cut: bool, first: int, stride: int) -> None:
    bundle = make(tmp_path, make_release_key())
    number, reached = first, [True]
    while reached:
        reached = []
        site = make_site(tmp_path / str(number))
        machine = _machine(site, behaviour)
        site.ask(bundle)
        try:
            _course(site, machine, _at(number, reached)).run()
        except Killed:
            if power_cut:
                machine.boot()
            _course(site, machine).run()
        _require_outcome(site, machine, behaviour)
        # The gate looks again and again: after its first looks every further one is the same.
        number += stride if number < EFFECTS_BEFORE_GATE else 37
    # a wrong configuration is found at the dry start, before anything is switched
    assert number > (EFFECTS_BEFORE_GATE if behaviour is not Behaviour.WRONG_CONFIGURATION else 40)


@pytest.mark.parametrize(
    ("behaviour", "power_cut", "first"),
    [(Behaviour.WELL, False, 0), (Behaviour.WELL, True, 3), (Behaviour.MIGRATES_AND_HANGS, True, 1)],
)
def test_an_update_that_is_cut_off_ends_as_it_would_have(
    tmp_path: Path, behaviour: Behaviour, power_cut: bool, first: int
) -> None:
    _cut_off_everywhere(tmp_path, behaviour, power_cut=power_cut, first=first, stride=7)


@pytest.mark.long
@pytest.mark.parametrize("power_cut", [False, True], ids=["kill", "power cut"])
@pytest.mark.parametrize("behaviour", [Behaviour.WELL, Behaviour.WRONG_CONFIGURATION, *SWITCHED])
def test_an_update_that_is_cut_off_anywhere_ends_as_it_would_have(
    tmp_path: Path, behaviour: Behaviour, power_cut: bool
) -> None:
    _cut_off_everywhere(tmp_path, behaviour, power_cut=power_cut, first=0, stride=1)


def test_a_local_order_that_is_cut_off_goes_on(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    machine = _machine(site)
    course = _course(site, machine)
    with make(tmp_path, site.secret).open("rb") as file:
        site.disk.take_from(file, "")
    course.begin_local("local-1")
    report = _course(site, machine).run()
    assert report is not None
    assert (report.id, report.outcome) == ("local-1", Outcome.KEPT)


def ends(site: Site) -> list[tuple[str, str, bool, bool]]:
    return [(e.report.id, e.report.outcome.value, e.local, e.back) for e in site.disk.read_ended()]


def test_how_each_update_ended_is_remembered_once_and_whoever_ordered_it(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    machine = _machine(site, Behaviour.HANGS)
    bundle = make(tmp_path, site.secret).read_bytes()
    with pytest.raises(QedgeError, match="no version before"):
        _course(site, machine).run_local("local-1", None)
    assert _course(site, machine).run_local("local-2", io.BytesIO(b"no bundle")).outcome is Outcome.REFUSED
    assert _course(site, machine).run_local("local-3", io.BytesIO(bundle)).outcome is Outcome.ROLLED_BACK
    machine = _machine(site)
    assert _course(site, machine).run_local("local-4", io.BytesIO(bundle)).outcome is Outcome.KEPT
    assert _course(site, machine).run_local("local-5", None).outcome is Outcome.KEPT
    site.ask(make(tmp_path, site.secret))
    _course(site, machine).run()
    assert ends(site) == [
        ("local-1", "refused", True, True),
        ("local-2", "refused", True, False),
        ("local-3", "rolled-back", True, False),
        ("local-4", "kept", True, False),
        ("local-5", "kept", True, True),
        ("order-1", "kept", False, False),
    ]


def test_the_memory_of_updates_is_bounded_and_holds_none_up_where_it_cannot_be_read(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    site.disk.prepare()
    (site.disk.layout.work / ENDED).write_text("{")
    with pytest.raises(QedgeError):
        site.disk.read_ended()
    report = UpdateReport("", Outcome.REFUSED, "", "", 1)
    for number in range(70):
        site.disk.note_end(EndedUpdate(msgspec.structs.replace(report, id=f"local-{number}")))
    assert [each[0] for each in ends(site)] == [f"local-{number}" for number in range(6, 70)]


def test_a_version_that_takes_the_box_down_again_and_again_is_given_up(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    machine = _machine(site)
    site.ask(make(tmp_path, site.secret))
    for _ in range(MAX_STARTS):
        machine.boot()
        dying: Any = Mortal(machine, _in_gate(site))
        with pytest.raises(Killed):
            Course(site.disk, dying, fake_verify, lambda _line: None).run()
    report = _course(site, machine).run()
    assert report is not None
    assert (report.outcome, report.code) == (Outcome.ROLLED_BACK, "update.interrupted")
    assert machine.version == "0.1.0"


def _in_gate(site: Site) -> Iterator[bool]:
    while True:
        journal = site.disk.read_journal()
        yield journal is not None and journal.step is Step.SWITCHED


def test_a_request_that_comes_back_after_its_end_is_not_carried_out_again(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    machine = _machine(site)
    bundle = make(tmp_path, site.secret)
    site.ask(bundle)
    _course(site, machine).run()
    site.ask(bundle)
    assert _course(site, machine).run() is None
    assert site.disk.current_slot() == "b"
    _require_clean(site)


def test_a_folder_in_the_place_of_a_bundle_does_not_hold_up_the_end(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    (site.disk.layout.staging / "odd.qup").mkdir()
    site.ask(make(tmp_path, site.secret))
    report = _course(site, _machine(site)).run()
    assert report is not None
    assert report.outcome is Outcome.KEPT
    assert not (site.disk.layout.work / JOURNAL).exists()


@pytest.mark.parametrize("kind", ["link to a file", "link to the folder", "pipe"])
def test_nothing_but_a_plain_file_of_the_staging_folder_is_taken(tmp_path: Path, kind: str) -> None:
    site = make_site(tmp_path)
    machine = _machine(site)
    bundle = make(tmp_path, site.secret)
    site.ask(bundle)
    staged = site.disk.layout.staging / "staged.qup"
    if kind == "link to the folder":
        elsewhere = tmp_path / "elsewhere"
        site.disk.layout.staging.rename(elsewhere)
        site.disk.layout.staging.symlink_to(elsewhere)
        assert _course(site, machine).run() is None
        assert machine.version == "0.1.0"
        return
    staged.unlink()
    if kind == "pipe":
        os.mkfifo(staged)
    else:
        staged.symlink_to(bundle)
    report = _course(site, machine).run()
    assert report is not None
    assert report.code == "update.bad_bundle"
    assert bundle.exists()


def test_the_same_bundle_may_be_ordered_again(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    machine = _machine(site)
    site.ask(make(tmp_path, site.secret))
    _course(site, machine).run()
    site.ask(make(tmp_path, site.secret), "order-2")
    again = _course(site, machine).run()
    assert again is not None
    assert (again.id, again.outcome, again.previous) == ("order-2", Outcome.KEPT, "0.2.0")


def test_going_back_and_forth_between_two_versions(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    machine = _machine(site)
    site.ask(make(tmp_path, site.secret))
    _course(site, machine).run()
    for version in ("0.1.0", "0.2.0"):
        course = _course(site, machine)
        assert course.finish(course.begin_local("local-1", back=True)).outcome is Outcome.KEPT
        assert machine.version == version


def test_going_back_to_what_does_not_work_keeps_both(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    install(site.disk.layout.slot("b"), "0.2.0")
    machine = _machine(site, Behaviour.HANGS)
    course = _course(site, machine)
    assert course.finish(course.begin_local("local-1", back=True)).outcome is Outcome.ROLLED_BACK
    assert (machine.version, site.disk.version_of("b")) == ("0.1.0", "0.2.0")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("foreign", "update.bad_signature"),
        ("older", "update.not_for_here"),
        ("python", "update.not_for_here"),
        ("platform", "update.not_for_here"),
        ("minimum", "update.not_for_here"),
        ("other hash", "update.bad_bundle"),
        ("garbage", "update.bad_bundle"),
    ],
)
def test_a_bundle_that_does_not_belong_here_changes_nothing(tmp_path: Path, name: str, code: str) -> None:
    site = make_site(tmp_path)
    machine = _machine(site)
    secret = make_release_key(2) if name == "foreign" else site.secret
    bundle = make(
        tmp_path,
        secret,
        "0.0.9" if name == "older" else "0.2.0",
        minimum_previous="0.1.1" if name == "minimum" else "0.0",
        python="3.12" if name == "python" else "3.11",
        platform="linux-aarch64" if name == "platform" else "linux-x86_64",
    )
    if name == "garbage":
        bundle.write_bytes(b"PK" + bytes(500))
    site.ask(bundle, sha256="0" * 64 if name == "other hash" else "")
    report = _course(site, machine).run()
    assert report is not None
    assert (report.outcome, report.code) == (Outcome.REFUSED, code)
    assert not site.disk.layout.slot("b").exists()
    assert (machine.version, machine.look().pid) == ("0.1.0", 1)
    _require_clean(site)


@pytest.mark.parametrize(
    "request_text", ["{", "[]", '{"id": "x", "bundle": "../../etc/shadow", "sha256": ""}', "9" * 99]
)
def test_a_request_that_is_none_is_removed(tmp_path: Path, request_text: str) -> None:
    site = make_site(tmp_path)
    (site.disk.layout.staging / REQUEST).write_text(request_text)
    assert _course(site, _machine(site)).run() is None
    _require_clean(site)


def test_a_box_without_two_slots_refuses_with_a_report(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    machine = _machine(site)
    site.ask(make(tmp_path, site.secret))
    site.disk.layout.current.unlink()
    assert _course(site, machine).run() is None
    report = site.disk.read_report()
    assert report is not None
    assert (report.id, report.code) == ("order-1", "update.no_slots")
    _require_clean(site)


def test_every_step_but_the_ends_leads_on() -> None:
    leaving = {state for state, _ in STEPS.rows}
    assert leaving == set(Step) - STEPS.final
    assert other("a") == "b"


def test_a_journal_without_the_newest_fields_is_read(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    old = {"id": "x", "bundle": "taken.qup", "sha256": "", "old": "a", "new": "b", "step": "reverting"}
    (site.disk.layout.work / JOURNAL).write_bytes(msgspec.json.encode(old))
    report = _course(site, _machine(site)).run()
    assert report is not None
    assert report.outcome is Outcome.ROLLED_BACK
