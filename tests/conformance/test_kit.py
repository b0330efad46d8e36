"""The kit passes sound drivers and fails broken ones by exactly the check that their fault is about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qedge_driver_api.conformance import Outcome, run
from tests.conformance.broken_drivers import BROKEN, HangsInRead
from tests.conformance.sound_drivers import SOUND, SoundQrng

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 8.0
SHORT_LIMIT_S = 1.5
"""For drivers that hang on purpose; all else they do takes milliseconds."""


@pytest.mark.parametrize("driver", SOUND, ids=lambda driver: driver.__name__)
def test_a_sound_driver_passes(driver: type[Any]) -> None:
    report = run(driver, limit_s=LIMIT_S, cycles=5)
    assert report.failed == (), report.text()
    assert report.ok


@pytest.mark.parametrize(("check", "driver"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_driver_fails_exactly_the_check_of_its_fault(check: str, driver: type[Any]) -> None:
    hangs = driver.__name__.startswith("Hangs")
    report = run(driver, limit_s=SHORT_LIMIT_S if hangs else LIMIT_S, cycles=5)
    assert report.failed == (check,), report.text()
    assert not report.ok


def test_every_check_is_proven_by_a_driver_that_fails_it() -> None:
    names = {result.name for driver in SOUND for result in run(driver, cycles=2).results}
    # `run` and `ghz` only stand between others: what breaks them breaks what they need or what needs them.
    assert names - {check for check, _ in BROKEN} == {"run", "ghz"}


def test_a_driver_that_hangs_is_named_with_the_place() -> None:
    report = run(HangsInRead, limit_s=SHORT_LIMIT_S, cycles=2)
    (failed,) = (result for result in report.results if result.outcome is Outcome.FAILED)
    assert "in read (broken_drivers.py:" in failed.detail


def test_a_device_that_is_not_there_is_skipped_and_not_failed() -> None:
    from qedge_driver_api import RetriableError

    class Unplugged(SoundQrng):
        def probe(self) -> None:
            raise RetriableError("nothing is plugged in")

    report = run(Unplugged, cycles=2)
    assert report.failed == ()
    skipped = {result.name: result.detail for result in report.results if result.outcome is Outcome.SKIPPED}
    assert skipped["probe"] == "the device is not there: nothing is plugged in"
    assert skipped["open"] == "needs probe"


def test_bad_settings_of_the_caller_are_a_failure_that_names_them() -> None:
    report = run(SoundQrng, {"level": 17}, cycles=2)
    assert report.failed == ("settings-accepted",)
    assert "level: expected 0 … 3, got 17" in report.text()


def test_the_report_is_data_and_text() -> None:
    report = run(SoundQrng, cycles=2)
    data = json.loads(json.dumps(report.as_dict()))
    assert data["ok"] is True
    assert {check["outcome"] for check in data["checks"]} == {"passed", "skipped"}
    assert report.text().splitlines()[0] == "driver soundqrng (qrng)"
    assert report.text().splitlines()[-1].endswith("0 failed, 1 skipped")


def _shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "qedge_driver_api.conformance", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_the_command_checks_an_entry_point_and_prints_json() -> None:
    ran = _shell("sim_qrng", "bias=0.01", "--json", "--cycles", "3")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["driver"] == "sim_qrng"


def test_the_command_ends_though_a_driver_hangs() -> None:
    ran = _shell("tests.conformance.broken_drivers:HangsInRead", "--limit", "1.5", "--cycles", "2")
    assert ran.returncode == 1
    assert "no answer within 1.5 s, in read" in ran.stdout


@pytest.mark.parametrize("arguments", [("no_such_driver",), ("sim_qrng", "bias"), ()])
def test_bad_usage_is_answered_with_its_own_exit_code(arguments: tuple[str, ...]) -> None:
    ran = _shell(*arguments)
    assert ran.returncode == 64
    assert ran.stderr


def test_a_driver_that_cannot_be_imported_is_reported() -> None:
    assert _shell("tests.no_such_module:Driver").returncode == 70
