"""The service is installed whole, twice is the same as once, and what a person wrote is never overwritten."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.cli import main
from qedge.cli.box import install


def _install(root: Path, *more: str) -> int:
    return main.main(["install", "--systemd", "--root", str(root), *more])


def _files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_everything_a_service_needs_is_written(tmp_path: Path) -> None:
    assert _install(tmp_path) == 0
    assert set(_files(tmp_path)) == {
        "etc/systemd/system/qedge.service",
        "etc/systemd/system/qedge-update.service",
        "etc/systemd/system/qedge-update.path",
        "etc/sysusers.d/qedge.conf",
        "etc/tmpfiles.d/qedge.conf",
        "etc/udev/rules.d/70-qedge.rules",
        "etc/systemd/system/qedge-restart-host.path",
        "etc/systemd/system/qedge-restart-host.service",
        "etc/qedge/agent.toml",
    }
    assert stat.S_IMODE((tmp_path / install.CONFIG_PATH).stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / install.UNIT_PATH).stat().st_mode) == 0o644


def test_the_next_commands_are_told_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _install(tmp_path)
    said = capsys.readouterr().out
    places = [said.index(word) for word in ("systemd-sysusers", "systemd-tmpfiles", "daemon-reload", "enable --now")]
    assert places == sorted(places)


def test_twice_is_the_same_as_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _install(tmp_path, "--device", "/dev/qrandom0")
    before = _files(tmp_path)
    capsys.readouterr()
    assert _install(tmp_path, "--device", "/dev/qrandom0") == 0
    assert _files(tmp_path) == before
    assert "written" not in capsys.readouterr().out


def test_a_configuration_that_is_there_is_kept(tmp_path: Path) -> None:
    config = tmp_path / install.CONFIG_PATH
    config.parent.mkdir(parents=True)
    config.write_text('[node]\nname = "mine"\n')
    _install(tmp_path)
    assert config.read_text() == '[node]\nname = "mine"\n'


def test_an_older_unit_is_replaced(tmp_path: Path) -> None:
    unit = tmp_path / install.UNIT_PATH
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\n")
    _install(tmp_path)
    assert "WatchdogSec=" in unit.read_text()


def test_the_unit_runs_the_program_that_was_named(tmp_path: Path) -> None:
    _install(tmp_path, "--exec", "/srv/q/bin/qedge")
    unit = (tmp_path / install.UNIT_PATH).read_text()
    assert "ExecStart=/usr/bin/env --ignore-signal=HUP /srv/q/bin/qedge run\n" in unit


def test_the_updater_runs_from_the_environment_that_was_last_found_well(tmp_path: Path) -> None:
    _install(tmp_path, "--exec", "/srv/q/current/bin/qedge")
    files = _files(tmp_path)
    service, path = (files[f"etc/systemd/system/qedge-update.{kind}"] for kind in ("service", "path"))
    assert "ExecStart=/srv/q/kept/bin/python -I -m qedge.fleet.update.updater --root /srv/q\n" in service
    assert "ReadWritePaths=/srv/q\n" in service
    assert "PathExists=/srv/q/update/journal.json\n" in path
    assert "/opt/qedge" not in service + path


def test_a_program_that_stands_alone_has_no_updater(tmp_path: Path) -> None:
    _install(tmp_path, "--exec", "/srv/q/bin/qedge")
    assert not [name for name in _files(tmp_path) if "update" in name]


def test_a_slot_is_linked_once_and_never_taken_from_the_service(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        install.link_slots(tmp_path / name)
    assert [(tmp_path / name).readlink() for name in ("current", "kept")] == [Path("a"), Path("a")]


def test_the_service_runs_a_slot_by_its_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "bin").mkdir(parents=True)
    (tmp_path / "a" / "bin" / "qedge").touch()
    monkeypatch.setattr("sys.prefix", str(tmp_path / "a"))
    monkeypatch.setattr(install, "_HIDDEN_FOLDERS", ())
    assert install.choose_program("", "") == str(tmp_path / "current" / "bin" / "qedge")
    (tmp_path / "pyvenv.cfg").touch()
    assert install.choose_program("", "") == str(tmp_path / "a" / "bin" / "qedge")


def test_an_environment_that_is_no_slot_is_not_linked(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").touch()
    for name in ("a", "venv"):
        install.link_slots(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["pyvenv.cfg"]


@pytest.mark.parametrize(
    "program", ["qedge", "/home/a/qedge", "/tmp/q", "/opt/../home/q", "/opt/a b/qedge", "/opt/%n/q"]
)
def test_a_program_that_the_service_cannot_run_is_refused(program: str) -> None:
    with pytest.raises(QedgeError) as caught:
        install.choose_program(program, "")
    assert caught.value.code == "client.usage"
    assert "--exec" in caught.value.fix


def test_a_program_that_is_not_there_is_refused_before_anything_is_written() -> None:
    with pytest.raises(QedgeError) as caught:
        install._require_program("/opt/no-such-folder/bin/qedge")
    assert caught.value.code == "client.file"


def test_only_the_named_devices_are_opened() -> None:
    text = install.device_drop_in(["/dev/qrandom0", "/dev/hwrng", "/dev/qrandom0"])
    assert text.split("[Service]\n")[1].splitlines() == [
        "PrivateDevices=no",
        "DeviceAllow=/dev/qrandom0 rw",
        "DeviceAllow=/dev/hwrng rw",
    ]


@pytest.mark.parametrize(
    "device", ["qrandom0", "/etc/passwd", "/dev/../etc/x", "/dev/a b", "/dev/", "/dev/x\nUser=root"]
)
def test_what_is_no_device_file_is_refused(tmp_path: Path, device: str) -> None:
    assert _install(tmp_path, "--device", device) == 64
    assert not _files(tmp_path)


def test_devices_stay_open_when_the_service_is_installed_again(tmp_path: Path) -> None:
    _install(tmp_path, "--device", "/dev/qrandom0")
    _install(tmp_path)
    assert "/dev/qrandom0" in (tmp_path / install.DEVICES_PATH).read_text()


def test_printing_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _install(tmp_path, "--print", "--device", "/dev/qrandom0") == 0
    assert not _files(tmp_path)
    said = capsys.readouterr().out
    assert f"/{install.UNIT_PATH}" in said
    assert f"/{install.DEVICES_PATH}" in said


def test_uninstalling_leaves_configuration_and_foreign_drop_ins(tmp_path: Path) -> None:
    _install(tmp_path, "--device", "/dev/qrandom0")
    wanted = tmp_path / "etc/systemd/system/multi-user.target.wants/qedge.service"
    wanted.parent.mkdir()
    wanted.symlink_to("/etc/systemd/system/qedge.service")
    own = tmp_path / "etc/systemd/system/qedge.service.d/override.conf"
    own.write_text("[Service]\n")
    assert _install(tmp_path, "--uninstall") == 0
    assert set(_files(tmp_path)) == {install.CONFIG_PATH, str(own.relative_to(tmp_path))}
    assert not wanted.is_symlink()
    assert _install(tmp_path, "--uninstall") == 0


def test_a_folder_that_cannot_be_written_is_said_with_its_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc").write_text("a file where a folder must be")
    assert _install(tmp_path) == 77
    said = capsys.readouterr().err
    assert "start.no_permission" in said
    assert "root" in said


def test_what_to_install_must_be_said() -> None:
    assert main.main(["install"]) == 64
