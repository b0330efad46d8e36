"""The unit is clean and hardened by the judgement of systemd itself, with and without quantum cards."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qedge.cli.box import install

MAX_EXPOSURE_TENTHS = 20

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"),
]

CARDS = pytest.mark.parametrize(
    "devices", [(), ("/dev/hwrng",), ("/dev/qrandom0", "/dev/qrandom1", "/dev/hwrng")], ids=["no card", "one", "three"]
)


def _write_unit(root: Path, devices: tuple[str, ...]) -> Path:
    # verify demands a program that exists; what it is does not matter to it.
    for target in install.make_targets("/usr/bin/true", devices):
        install.write(root / target.path, target)
    return root / install.UNIT_PATH


def _analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60)


@CARDS
def test_systemd_finds_nothing_to_complain_about(tmp_path: Path, devices: tuple[str, ...]) -> None:
    done = _analyze("verify", str(_write_unit(tmp_path, devices)))
    assert done.returncode == 0
    assert "qedge" not in done.stderr, done.stderr


@CARDS
def test_the_exposure_is_at_most_two(tmp_path: Path, devices: tuple[str, ...]) -> None:
    unit = _write_unit(tmp_path, devices)
    done = _analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE_TENTHS}", str(unit))
    assert done.returncode == 0, done.stdout + done.stderr
    # Devices that are not seen would mean that the drop-in was not judged.
    assert all(f"{device}:rw" in done.stdout for device in devices)


def _write_updater(root: Path) -> Path:
    program = root / "slots" / "current" / "bin" / "qedge"
    for name in ("current", "kept"):
        (root / "slots" / name / "bin").mkdir(parents=True)
        (root / "slots" / name / "bin" / "python").symlink_to(sys.executable)
    program.symlink_to(sys.executable)
    for target in install.make_targets(str(program)):
        install.write(root / target.path, target)
    return root / "etc/systemd/system/qedge-update.service"


def test_systemd_finds_nothing_to_complain_about_in_the_updater(tmp_path: Path) -> None:
    unit = _write_updater(tmp_path)
    done = _analyze("verify", str(unit), str(unit.with_suffix(".path")))
    assert done.returncode == 0, done.stderr
    assert "qedge" not in done.stderr, done.stderr


def test_the_exposure_of_the_updater_is_at_most_two(tmp_path: Path) -> None:
    unit = _write_updater(tmp_path)
    done = _analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE_TENTHS}", str(unit))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_that_restarts_the_box_is_clean_and_hardened_too(tmp_path: Path) -> None:
    folder = _write_unit(tmp_path, ()).parent
    units = [str(folder / f"qedge-restart-host.{kind}") for kind in ("path", "service")]
    done = _analyze("verify", *units)
    assert done.returncode == 0
    assert "restart-host" not in done.stderr, done.stderr
    done = _analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE_TENTHS}", units[1])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_unit_that_is_open_is_found_out(tmp_path: Path) -> None:
    unit = _write_unit(tmp_path, ())
    unit.write_text(
        unit.read_text()
        .replace("NoNewPrivileges=yes", "")
        .replace("ProtectSystem=strict", "")
        .replace("User=qedge", "")
    )
    assert _analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE_TENTHS}", str(unit)).returncode != 0


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_the_user_is_made_from_the_installed_file(tmp_path: Path) -> None:
    _write_unit(tmp_path, ())
    done = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", "qedge.conf"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    entries = [line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()]
    (user,) = [entry for entry in entries if entry[0] == "qedge"]
    assert 0 < int(user[2]) < 1000
    assert user[5] == "/var/lib/qedge"
