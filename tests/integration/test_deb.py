"""The Debian package holds what it should, and its scripts are sound."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

from tests.unit.fleet.update.bundles import make_wheel

DEB = Path(__file__).resolve().parents[2] / "packaging" / "deb"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed"),
]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """Load the program that builds the package."""
    spec = importlib.util.spec_from_file_location("deb_build", DEB / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def package(build: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a package of two small wheels."""
    work = tmp_path_factory.mktemp("deb")
    make_wheel(work / "wheels", "qedge", "0.2.0rc1")
    make_wheel(work / "wheels", "some-thing", "1.5")
    path: Path = build.build(work / "wheels", work / "out")
    return path


def _said(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout


def test_everything_in_the_package_belongs_to_root(package: Path) -> None:
    lines = _said("dpkg-deb", "--contents", str(package)).splitlines()
    assert {line.split()[1] for line in lines} == {"root/root"}
    modes = {line.split()[5]: line.split()[0] for line in lines}
    assert modes["./etc/qedge/agent.toml"] == "-rw-r-----"
    assert {mode for mode in modes.values() if mode.startswith("d")} == {"drwxr-xr-x"}
    assert "./usr/share/qedge/wheels/some_thing-1.5-py3-none-any.whl" in modes
    assert {"./usr/lib/systemd/system/qedge.service", "./usr/lib/systemd/system/qedge-update.path"} <= set(modes)
    assert [line.split(" -> ")[1] for line in lines if "./usr/bin/qedge" in line] == ["/opt/qedge/current/bin/qedge"]


def test_control_says_what_the_package_is(package: Path, build: ModuleType) -> None:
    fields = _said("dpkg-deb", "--field", str(package))
    assert "Version: 0.2.0~rc1\n" in fields
    assert "Package: qedge\n" in fields
    assert "@" not in fields.replace("qedge@localhost", "")
    scripts = _said("dpkg-deb", "--info", str(package), *build.SCRIPTS)
    assert "@" not in scripts.replace('"$@"', "")
    assert _said("dpkg-deb", "--info", str(package), "conffiles") == "/etc/qedge/agent.toml\n"


@pytest.mark.parametrize("name", ["preinst", "postinst", "prerm", "postrm"])
def test_the_scripts_are_plain_shell(name: str) -> None:
    assert subprocess.run(["sh", "-n", str(DEB / name)], timeout=10).returncode == 0


def test_versions_sort_for_dpkg_as_for_python(build: ModuleType) -> None:
    versions = ["0.1.dev1", "0.1a1", "0.1b2", "0.1rc1", "0.1", "0.1.1", "0.2rc10", "0.2"]
    assert versions == sorted(versions, key=Version)
    for one, other in itertools.pairwise(versions):
        words = ["dpkg", "--compare-versions", build.debian_version(one), "lt", build.debian_version(other)]
        assert subprocess.run(words, timeout=10).returncode == 0, (one, other)
