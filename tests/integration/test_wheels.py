"""The wheels: what is in them, and that the driver contract works where no daemon is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


def _build(source: Path, target: Path) -> zipfile.ZipFile:
    """Build the wheel of a folder with a pyproject.toml and open it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = target.glob("*.whl")
    return zipfile.ZipFile(wheel)


def test_the_wheel_holds_all_packages_their_data_and_the_licence(tmp_path: Path) -> None:
    with _build(ROOT, tmp_path) as wheel:
        names = wheel.namelist()
        tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
        assert tops == {"qedge", "qedge_device", "qedge_driver_api", "qedge_drivers"}
        for data in ("qedge/py.typed", "qedge/web/page/files/index.html", "qedge/cli/demo/circuits/ghz.qasm"):
            assert data in names
        assert any(name.endswith("licenses/LICENSE") for name in names)
        entry_points = next(name for name in names if name.endswith("entry_points.txt"))
        written = wheel.read(entry_points).decode()
        assert "qedge = qedge.cli.main:main" in written
        assert "sim_qpu = qedge_drivers.sim_qpu:SimQpu" in written


def test_the_driver_contract_is_installed_and_imported_alone(tmp_path: Path) -> None:
    with _build(ROOT / "packaging" / "qedge-driver-api", tmp_path / "dist") as wheel:
        assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info" not in name} == {"qedge_driver_api"}
        built = wheel.filename
    assert built is not None
    target = tmp_path / "target"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target), built]
    done = subprocess.run(install, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    # -S and -I: neither this environment's packages nor the source tree can be what is imported.
    loads = (
        f"import sys; sys.path.insert(0, {str(target)!r}); import qedge_driver_api as api; "
        "print(api.API_VERSION, api.__file__, 'qedge' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", loads], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    version, file, daemon_loaded = done.stdout.split()
    assert version.isdigit()
    assert Path(file).is_relative_to(target)
    assert daemon_loaded == "False"


def test_the_device_library_is_installed_and_works_alone(tmp_path: Path) -> None:
    with _build(ROOT / "packaging" / "qedge-device", tmp_path / "dist") as wheel:
        names = wheel.namelist()
        assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"qedge_device"}
        assert {"qedge_device/device-sessions.json", "qedge_device/README.md"} <= set(names)
        built = wheel.filename
    assert built is not None
    target = tmp_path / "target"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target), built]
    done = subprocess.run(install, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    program = (
        f"import sys, os; sys.path.insert(0, {str(target)!r}); import qedge_device, qedge_device.rich as rich; "
        "device = qedge_device.ConstrainedDevice('lab', 'box', 'tag', bytes(32), os.urandom); "
        "print(len(device.hello()), qedge_device.__file__, rich.__file__, 'qedge' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    size, *files, daemon_loaded = done.stdout.split()
    assert (size, daemon_loaded) == ("29", "False")
    assert all(Path(file).is_relative_to(target) for file in files)


def test_every_part_that_is_built_alone_builds(tmp_path: Path) -> None:
    for part in sorted((ROOT / "packaging").glob("*/pyproject.toml")):
        with _build(part.parent, tmp_path / part.parent.name) as wheel:
            package = part.parent.name.replace("-", "_")
            assert f"{package}/py.typed" in wheel.namelist()
