"""Packages and updates under a real systemd: good ones, bad ones, the first one, and what is left after removal.

The steps are in `update_steps.py`; what they saw is judged here. Takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from qedge.cli.box import update
from tests.integration.debian import ROOT, Seen, add_steps, boot, build_wheel, dependencies, plant, require_tools
from tests.integration.debian import step_of as _step

HERE = Path(__file__).parent
STEPS = [HERE / "update_steps.py", HERE / "systemd_steps.py"]
BOOT_LIMIT_S = 3000.0
ROLL_BACK_LIMIT_S = 60.0
PARTS = ("agent", "drivers", "configs", "systemd", "pyproject.toml", "README.md", "LICENSE")

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(3600)]

Change = tuple[str, str, str]
"""File, text in it, text instead."""

_RUN = "agent/qedge/cli/node/run.py"
_BEGIN = "    early = EarlyHangup()\n"
HANGS: Change = (_RUN, _BEGIN, "    __import__('time').sleep(3600)\n")
CRASHES: Change = (_RUN, _BEGIN, "    raise SystemExit(3)\n")
MIGRATES: Change = (
    "agent/qedge/store/schema.py",
    "VERSION: Final = len(MIGRATIONS)\n",
    'MIGRATIONS += (("CREATE TABLE of_the_new_version (id INTEGER) STRICT",),)\nVERSION: Final = len(MIGRATIONS)\n',
)
HANGS_LATER: Change = (
    "agent/qedge/daemon/lifecycle.py",
    "        key_files, spool, telemetry = None, None, None\n",
    "        key_files, spool, telemetry = None, None, None\n        await asyncio.sleep(3600)\n",
)
CRASHES_LATER: Change = (HANGS_LATER[0], HANGS_LATER[1], HANGS_LATER[1] + "        raise SystemExit(3)\n")
VERSIONS: Mapping[str, tuple[str, tuple[Change, ...]]] = {
    "hangs": ("0.2.0", (HANGS,)),
    "good": ("0.3.0", ()),
    "crashes": ("0.4.0", (CRASHES,)),
    "migrates": ("0.4.1", (MIGRATES, HANGS_LATER)),
    "package": ("0.1.0", ()),
    "newer": ("0.9.0", ()),
    "broken": ("0.9.1", (MIGRATES, CRASHES_LATER)),
}


def _wheels(work: Path, name: str) -> Path:
    """Gather the wheels of one variant of this source tree."""
    version, changes = VERSIONS[name]
    source, wheels = work / f"source-{name}", work / f"wheels-{name}"
    source.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source / part)
    init = source / "agent/qedge/__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', init.read_text()))
    for file, text, instead in changes:
        before = (source / file).read_text()
        assert before.count(text) == 1, file
        (source / file).write_text(before.replace(text, instead))
    build_wheel(source, wheels)
    for wheel in dependencies().glob("*.whl"):
        os.link(wheel, wheels / wheel.name)
    shutil.rmtree(source)
    return wheels


def _qedge_update(*words: str) -> None:
    parser = argparse.ArgumentParser()
    update.add_arguments(parser)
    args = parser.parse_args(words)
    assert update.run(args) == 0


def _make_given(work: Path, given: Path) -> None:
    """Make packages, bundles and keys."""
    secret = work / "passphrase"
    secret.write_text("correct horse battery staple\n")
    for name in ("release", "foreign"):
        keys = [str(work / f"{name}.sealed"), str(given / f"{name}.json")]
        _qedge_update("key", *keys, "--passphrase-file", str(secret))
    (given / "foreign.json").unlink()
    sums = {}
    for name in VERSIONS:
        wheels = _wheels(work, name)
        if name in ("package", "newer", "broken"):
            deb = [sys.executable, str(ROOT / "packaging/deb/build.py"), "--wheels", str(wheels), "--out", str(given)]
            subprocess.run(deb, check=True, capture_output=True, timeout=100)
        else:
            for key, file in (("release", f"{name}.qup"), *([("foreign", "foreign.qup")] if name == "good" else [])):
                words = [
                    "--wheels",
                    str(wheels),
                    "--key",
                    str(work / f"{key}.sealed"),
                    "--passphrase-file",
                    str(secret),
                ]
                _qedge_update("bundle", str(given / file), *words)
                done = subprocess.run(["sha256sum", str(given / file)], check=True, capture_output=True, text=True)
                sums[file] = done.stdout.split()[0]
        shutil.rmtree(wheels)
    (given / "sums.json").write_bytes(msgspec.json.encode(sums))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Boot once, run all steps, and return what they saw."""
    require_tools()
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    work = tmp_path_factory.mktemp("update")
    tree, results, given = work / "tree", work / "results", work / "given"
    results.mkdir()
    given.mkdir()
    try:
        plant(tree)
        _make_given(work, given)
        add_steps(tree, STEPS)
        yield boot(tree, results, BOOT_LIMIT_S, f"--bind={given}:/given")
    finally:
        # Gigabytes that nobody looks at again; the results stay.
        shutil.rmtree(tree, ignore_errors=True)
        shutil.rmtree(given, ignore_errors=True)


def test_the_package_brings_up_a_node_that_works(seen: Seen) -> None:
    step = _step(seen, "install")
    assert (step["active"], step["enabled"], step["version"]) == ("active", ["enabled", "enabled"], "qedge 0.1.0")
    assert step["slots"] == ["a", "a", False]
    assert step["config"] == ["root:qedge:750", "root:qedge:640"]
    assert step["work"]["job"]["state"] == "done"


def test_a_daemon_that_begins_anew_for_its_settings_stays_the_same_process_to_systemd(seen: Seen) -> None:
    step = _step(seen, "settings")
    for name, serial, code in (("bad", 0, 1), ("good", 2, 0)):
        each = step[name]
        assert (each["code"], each["view"]["serial"]) == (code, serial), each
        assert each["pids"][0] == each["pids"][1] != 0, each
        assert each["restarts"][0] == each["restarts"][1], each
        assert each["active"] == "active"
    assert step["bad"]["view"]["last"]["code"] == "start.port_taken"
    assert step["good"]["starts"] == 1


def test_a_first_update_that_hangs_is_undone_within_a_minute(seen: Seen) -> None:
    step = _step(seen, "first_update_hangs")
    assert step["report"]["outcome"] == "rolled-back"
    assert (step["report"]["version"], step["before"], step["after"]) == ("0.2.0", "qedge 0.1.0", "qedge 0.1.0")
    assert step["slots"] == ["a", "a", "a"]
    assert 0 < step["away_s"] <= ROLL_BACK_LIMIT_S
    assert (step["left"], step["active"], step["jobs"]) == ([], "active", 1)


def test_an_updater_that_is_killed_after_the_switch_goes_on(seen: Seen) -> None:
    step = _step(seen, "killed_updater")
    assert step["killed"] == 1
    assert step["report"]["outcome"] == "kept", step["report"]
    assert (step["after"], step["slots"], step["left"]) == ("qedge 0.3.0", ["a", "b", "b"], [])
    assert (step["jobs"], step["work"]["job"]["state"]) == (1, "done")


def test_an_operator_goes_back_to_the_version_before_and_forth_again(seen: Seen) -> None:
    step = _step(seen, "back_and_forth")
    assert [(each["report"]["outcome"], each["version"]) for each in (step["back"], step["forth"])] == [
        ("kept", "qedge 0.1.0"),
        ("kept", "qedge 0.3.0"),
    ]


def test_a_version_that_crashes_is_undone_without_waiting_for_the_end_of_the_gate(seen: Seen) -> None:
    step = _step(seen, "crashes")
    assert (step["report"]["outcome"], step["after"]) == ("rolled-back", "qedge 0.3.0")
    assert "ended by itself" in step["report"]["reason"]
    assert 0 < step["away_s"] <= ROLL_BACK_LIMIT_S


def test_a_database_that_the_bad_version_changed_is_put_back_with_all_jobs(seen: Seen) -> None:
    step = _step(seen, "migrates")
    assert (step["report"]["outcome"], step["after"]) == ("rolled-back", "qedge 0.3.0")
    assert step["report"]["databases"] == ["qedge.sqlite3"]
    assert 0 < step["away_s"] <= ROLL_BACK_LIMIT_S
    assert step["jobs"] == 2


def test_bundles_that_are_altered_foreign_or_older_change_nothing(seen: Seen) -> None:
    step = _step(seen, "refused")
    codes = {name: step[name]["report"]["code"] for name in ("older", "foreign", "altered")}
    assert codes == {
        "older": "update.not_for_here",
        "foreign": "update.bad_signature",
        "altered": "update.bad_bundle",
    }
    for name in codes:
        before, after = step[name]["pids"]
        assert before == after != 0
    assert step["link"]["code"] == "update.bad_bundle"
    assert step["path"] == "active"


def test_root_applies_a_bundle_by_hand(seen: Seen) -> None:
    step = _step(seen, "apply")
    assert (step["code"], step["report"]["outcome"]) == (1, "rolled-back")
    assert step["status"]["current"] == "0.3.0"


def test_a_newer_package_upgrades_and_leaves_configuration_and_work(seen: Seen) -> None:
    step = _step(seen, "upgrade")
    assert (step["before"], step["after"], step["active"]) == ("qedge 0.3.0", "qedge 0.9.0", "active")
    assert step["kept"]
    assert step["jobs"] == 2
    assert step["work"]["job"]["state"] == "done"


def test_a_package_whose_program_does_not_come_up_leaves_the_one_before_at_work(seen: Seen) -> None:
    step = _step(seen, "bad_package")
    assert step["code"] != 0
    assert "going back to 0.9.0" in step["said"]
    assert step["version"] == "qedge 0.9.0"
    assert step["jobs"][0] == step["jobs"][1] > 0
    assert step["state"] == "install ok installed 0.9.0"


def test_removing_the_package_leaves_only_configuration_and_state(seen: Seen) -> None:
    step = _step(seen, "remove")
    assert {path for path in step["left"] if path.count("/") == 2 or "dpkg" not in path} <= {
        "/etc/qedge",
        "/var/lib/qedge",
        *(path for path in step["left"] if path.startswith("/var/lib/qedge/")),
    }
    assert step["loaded"] == ["not-found", "LoadState=not-found"]
    assert (step["processes"], step["failed_units"]) == ([], "")


def test_purging_the_package_leaves_nothing(seen: Seen) -> None:
    assert _step(seen, "purge")["left"] == []
